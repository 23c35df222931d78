"""Two vocabularies beside each other: which tokens spell the same, and an answer in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.aligned import LEAST, Span, byte_spans, token_ends
from distill.completions import BadInput, Completion, Logprobs
from distill.models import vocabulary_of
from distill.token_bytes import TokenBytes


@dataclass(frozen=True)
class Aligned:
    """Released rows of P pairs of positions, in the student's vocabulary.

    `position_P`: the student's token that a row predicts, by its place in the answer. `ids_PK`:
    its tokens, -1 where it has none that spells the same. `values_PK`, `tail_P`: logprobs, and the
    log of what is in no entry. The probability of a pair is to be multiplied by those of the
    answer's tokens `before_E` it, each for the pair `pair_E`.
    """

    position_P: np.ndarray
    ids_PK: np.ndarray
    values_PK: np.ndarray
    tail_P: np.ndarray
    pair_E: np.ndarray
    before_E: np.ndarray

    def first(self, tokens: int) -> Aligned:
        """The pairs within the first tokens of the answer.

        Args:
            tokens: of the student, how many.
        """
        size = int(np.searchsorted(self.position_P, tokens))
        edge = int(np.searchsorted(self.pair_E, size))
        return Aligned(
            self.position_P[:size],
            self.ids_PK[:size],
            self.values_PK[:size],
            self.tail_P[:size],
            self.pair_E[:edge],
            self.before_E[:edge],
        )

    @staticmethod
    def joined(parts: Sequence[Aligned], lengths: Sequence[int]) -> Aligned:
        """Those of several answers, of so many tokens each, behind each other.

        Args:
            parts: by answer.
            lengths: tokens of the student in each answer.
        """
        tokens = np.cumsum([0, *lengths])
        pairs = np.cumsum([0, *(len(part.position_P) for part in parts)])
        rows = list(zip(parts, tokens, pairs, strict=False))
        return Aligned(
            np.concatenate([part.position_P + at for part, at, _ in rows]),
            np.concatenate([part.ids_PK for part in parts]),
            np.concatenate([part.values_PK for part in parts]),
            np.concatenate([part.tail_P for part in parts]),
            np.concatenate([part.pair_E + at for part, _, at in rows]),
            np.concatenate([part.before_E + at for part, at, _ in rows]),
        )


@dataclass(frozen=True)
class Bridge:
    """A teacher's tokens as a student's.

    `student_T`: by the teacher's token the student's that spells the same, -1 where there is none.
    """

    teacher: TokenBytes
    student: TokenBytes
    student_T: np.ndarray

    @classmethod
    def between(cls, teacher: Any, student: Any) -> Bridge:
        """Of two tokenizers.

        Args:
            teacher, student: tokenizers of transformers.

        Raises:
            BadInput: the tokens of one spell no bytes.
        """
        ours, theirs = TokenBytes(student), TokenBytes(teacher)
        if vocabulary_of(teacher) == vocabulary_of(student):
            return cls(theirs, ours, np.arange(len(theirs.of)))
        student_ids = [-1 if data is None else _only(theirs, ours, data) for data in theirs.of]
        student_ids[teacher.eos_token_id] = student.eos_token_id
        return cls(theirs, ours, np.array(student_ids))

    @property
    def teacher_size(self) -> int:
        return len(self.teacher.of)

    @property
    def matched_V(self) -> np.ndarray:
        """Whether a token of the teacher spells what the student's does."""
        matched = np.zeros(len(self.student.of), bool)
        matched[self.student_T[self.student_T >= 0]] = True
        return matched

    @property
    def share(self) -> float:
        """The share of the teacher's tokens that the student has too."""
        return float((self.student_T >= 0).mean())

    def align(
        self, answer: Completion, student_ids: list[int], *, by_bytes: bool, whole: bool
    ) -> Aligned:
        """What was released for an answer, beside the student's tokens of it.

        Args:
            answer: of the teacher, with logprobs.
            student_ids: its text in the student's tokens, with end-of-text if it is finished.
            by_bytes: pairs are spans between shared boundaries; else positions from the first on.
            whole: all spans, each with the row of its last token; else those of one token in both.

        Raises:
            BadInput: the answer has no logprobs, or tokens that do not spell it.
        """
        if answer.logprobs is None:
            raise BadInput(
                f"attacker aligned_kd: answer {answer.prompt_id!r} has no logprobs; use a profile "
                "that gives them"
            )
        theirs = self._ends(answer, self.teacher, [*answer.token_ids], "teacher")
        content_ids = student_ids[: len(student_ids) - answer.finished]
        ours = self._ends(answer, self.student, content_ids, "student")
        if by_bytes:
            spans = byte_spans(ours, theirs)
            alike = [((a, b), (c, d)) for (a, b), (c, d) in spans if b - a == d - c == 1]
            spans = spans if whole else alike
        else:
            size = min(len(ours), len(theirs))
            spans = [((at, at + 1), (at, at + 1)) for at in range(size)]
        return self._rows(answer, answer.logprobs, spans, whole)

    def _ends(
        self, answer: Completion, spelling: TokenBytes, ids: list[int], whose: str
    ) -> list[int]:
        """Where the tokens of an answer end."""
        data, lengths = spelling.text(ids), [len(spelling.of[token] or b"") for token in ids]
        text = answer.text.encode()
        before = len(data) - len(text)
        # SentencePiece writes a space before a text.
        if before > 0 and data == b" " * before + text and lengths[0] >= before:
            lengths[0] -= before
        elif data != text:
            raise BadInput(
                f"attacker aligned_kd: answer {answer.prompt_id!r}: the {whose}'s tokens spell "
                f"{data[:40]!r}, the text is {answer.text[:40]!r}"
            )
        return token_ends(lengths, answer.finished)

    def _rows(
        self,
        answer: Completion,
        released: Logprobs,
        spans: list[tuple[Span, Span]],
        whole: bool,
    ) -> Aligned:
        theirs = [b - 1 for _, (_, b) in spans]
        values_PK = released.values_TK[theirs].astype(np.float64)
        ids_PK = released.ids_TK[theirs]
        mapped_PK = np.where(ids_PK >= 0, self.student_T[ids_PK.clip(min=0)], -1)
        tail_P = _tails(released)[theirs]
        if not whole:  # what the student has no token for goes into the bucket
            with np.errstate(divide="ignore"):
                lost_P = np.exp(np.where(mapped_PK < 0, values_PK, -np.inf)).sum(-1)
                tail_P = np.log(np.exp(tail_P) + lost_P)
            values_PK = np.where(mapped_PK < 0, -np.inf, values_PK)
        said_T = _said(answer, released)
        before_P = np.array([said_T[a : b - 1].sum() for _, (a, b) in spans])
        inside = [(pair, at) for pair, ((a, b), _) in enumerate(spans) for at in range(a, b - 1)]
        edges = np.array(inside, np.int64).reshape(-1, 2)
        return Aligned(
            np.array([b - 1 for (_, b), _ in spans], np.int64),
            mapped_PK.astype(np.int64),
            (values_PK + before_P[:, None]).astype(np.float32),
            (tail_P + before_P).astype(np.float32),
            edges[:, 0],
            edges[:, 1],
        )


def _only(theirs: TokenBytes, ours: TokenBytes, data: bytes) -> int:
    """The student's one token of these bytes, if the teacher has one alone as well."""
    token = ours.only(data) if theirs.only(data) is not None else None
    return -1 if token is None else token


def _tails(released: Logprobs) -> np.ndarray:
    """The log of what is in no entry of a row (T)."""
    if released.tail_T is not None:
        return np.asarray(released.tail_T, np.float64)
    with np.errstate(divide="ignore"):
        mass_T = np.exp(released.values_TK.astype(np.float64)).sum(-1)
        return np.asarray(np.log(np.clip(1 - mass_T, 0, None)))


def _said(answer: Completion, released: Logprobs) -> np.ndarray:
    """The released logprobs of the tokens that were said (T), at least log LEAST."""
    ids_TK = released.ids_TK[: len(answer.token_ids)]
    own_TK = ids_TK == np.array(answer.token_ids, ids_TK.dtype).reshape(-1, 1)
    values_TK = np.where(own_TK, released.values_TK[: len(own_TK)], -np.inf)
    return np.asarray(values_TK.max(-1, initial=np.log(LEAST)), np.float64)
