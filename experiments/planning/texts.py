"""Recorded texts in campaigns: their stage, and what is looked at before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from distill.completions import BadInput
from distill.tables import Source, read_rows, text_of
from distill.text_vectors import EncoderFolder, folder_of
from experiments.private import shown
from experiments.settings.entries import near
from experiments.settings.schema import Study
from experiments.settings.texts import ENCODERS, RecordedTexts
from experiments.stages.stage import Stage
from experiments.stages.texts import TextsSpec


def texts_stage(texts: RecordedTexts | None) -> Stage | None:
    """The stage that reads a recording; None where campaigns have none.

    Args:
        texts: of the study's campaigns.
    """
    return Stage(TextsSpec(**dict(texts))) if texts else None


def check_texts(study: Study, opens: bool) -> Iterator[str]:
    """The recording must be there with its columns, and the encoder with its files; the first row
    alone is read.

    Args:
        study: whose campaigns may have texts.
        opens: whether files are looked at; false for a stranger's study.

    Returns:
        What a report says of them.

    Raises:
        BadInput: something is missing.
    """
    texts = study.campaigns.texts if study.campaigns else None
    if texts is None:
        return
    if opens:
        _check_encoder(texts)
        _check_recording(texts)
    name = "a folder" if isinstance(texts.encoder, EncoderFolder) else texts.encoder
    yield f"campaigns: detectors read recorded texts, embedded by {name}, in the place of topics"


def _check_recording(texts: RecordedTexts) -> None:
    """BadInput where the recording's first row has no texts."""
    if not os.path.exists(shown(texts.path)):
        raise BadInput(f"campaigns.texts.path: no such file: {texts.path!r}")
    try:
        first = next(read_rows(Source(shown(texts.path), where=texts.where)), None)
        if first is None:
            raise BadInput(f"{shown(texts.path)}: holds no row")
        for column in (texts.task, texts.question, texts.response):
            text_of(first.where, first.values, column)
    except BadInput as error:
        raise BadInput(f"campaigns.texts: {error}") from error


def _check_encoder(texts: RecordedTexts) -> None:
    """BadInput where the encoder's files are not there."""
    encoder = texts.encoder
    if encoder == "hashing":
        return
    try:
        if isinstance(encoder, EncoderFolder):
            encoder = EncoderFolder(path=shown(encoder.path))
        folder_of(encoder)
    except BadInput as error:
        word = encoder.path if isinstance(encoder, EncoderFolder) else ""
        there = f" (there are: {', '.join(ENCODERS)}, or a folder)" if word else ""
        raise BadInput(f"campaigns.texts.{error}{near(word, ENCODERS)}{there}") from error
