"""Defences by model on 200 recorded answers of real models, with a real model as their rewriter:

    python -m tests.defenses.release.rewriters runs/models/smollm2-135m-instruct

prints on how many answers each acts, and whether all final answers are those that they were. The
others are released as they were.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from defenses import ProviderResources
from distill.answer_format import AnswerFormat
from distill.completions import Completion, Interface
from distill.folders import load
from distill.models import LanguageModel
from distill.specs import PretrainedModel
from experiments.settings.components import build_defense
from experiments.settings.defenses import parse_defense
from experiments.stages.models import StoredModel
from tests.defenses.release.test_real_texts import recorded

DEFENSES = (
    "release/summary(by=model)",
    "release/reformulate(by=model)",
    "release/rewrite",
    "release/hindsight",
    "release/poison(by=model, p=1.0, where=reasoning)",
)


class Kept(NamedTuple):
    """How many of a defence's answers were rewritten, how many have the final answer that they had,
    and how many words all have, before and behind it.
    """

    rewritten: int
    unchanged: int
    words: tuple[int, int]


def measured(
    entry: str, rewriter: LanguageModel, texts: Sequence[tuple[AnswerFormat, str]]
) -> Kept:
    """What a defence does to recorded answers.

    Args:
        entry: of the defence.
        rewriter: of the provider.
        texts: answers, each with the format that it is read by.
    """
    forms = list(dict.fromkeys(form for form, _ in texts))
    rewritten = unchanged = before = behind = 0
    for form in forms:
        answers = [
            Completion(str(i), "How much is it?", text)
            for i, (own, text) in enumerate(texts)
            if own == form
        ]
        resources = ProviderResources(format=form, rewriter=rewriter)
        defended = build_defense(parse_defense(entry).spec, resources)(StoredModel(answers))
        prompts = [answer.question for answer in answers]
        released = defended.generate(prompts, seed=0, interface=Interface())
        for text, done in zip((answer.text for answer in answers), released, strict=True):
            rewritten += done.text != text
            unchanged += form.final(done.text) == form.final(text)
            before, behind = before + len(text.split()), behind + len(done.text.split())
    return Kept(rewritten, unchanged, (before, behind))


def main() -> None:
    """Prints a row a defence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a model that follows instructions")
    parser.add_argument("--answers", type=int, default=200)
    args = parser.parse_args()
    texts = recorded()
    texts = texts[:: max(1, len(texts) // args.answers)][: args.answers]
    spec = PretrainedModel(path=args.model, dtype="bfloat16")
    rewriter = load(spec, temperature=0.0, max_new_tokens=400, batch_size=16)
    print("| defence | answers | rewritten | final answer kept | words, before and behind |")
    print("|---|--:|--:|--:|--:|")
    for entry in DEFENSES:
        got = measured(entry, rewriter, texts)
        words = " → ".join(map(str, got.words))
        print(
            f"| `{entry}` | {len(texts)} | {got.rewritten} | {got.unchanged} | {words} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
