"""Paraphrase: the same solution in other words, so that what was hidden in the wording goes.

What attackers do to wash watermarks and styles off answers (UP in Pan et al., ACL 2025). By rule:
operands of a sum or a product change places, and connectives of prose are exchanged for others,
each place with probability `share`. By the attacker's own model: one that follows instructions is
asked for the solution in other words, or to translate it and then its translation back. A
paraphrase whose final answer is another one is not kept: the answer stays as it was.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from pydantic import Field, model_validator

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import split_answer, with_text
from distill.completions import Completion, Interface, Prompt
from distill.folders import load

# Words that stand for one another at the beginning of a step or a sentence.
CONNECTIVES = (
    ("So", "Thus", "Therefore", "Hence"),
    ("First", "To begin"),
    ("Then", "Next", "After that"),
    ("Finally", "Lastly"),
    ("But", "However"),
)
OTHERS = {
    word: [other for other in group if other != word] for group in CONNECTIVES for word in group
}
# A sum or product of exactly two numbers, names or digits, neither of which belongs to a longer
# term.
TWO = re.compile(r"(?<![\w.+*/-])(\w+(?:\.\d+)?)( ?[+*] ?)(\w+(?:\.\d+)?)(?![\w.]| ?[+*/(-])")
WORD = re.compile(
    r"(?:(?<=^)|(?<=[.!?;\n] )|(?<=\n))(" + "|".join(sorted(OTHERS, key=len, reverse=True)) + r")\b"
)


def by_rule(text: str, share: float, rng: random.Random) -> str:
    """Commutative operands swapped and connectives exchanged, each place with that probability.

    Args:
        text: of an answer.
        share: probability of each place.
        rng: draws them.
    """
    text = TWO.sub(lambda m: f"{m[3]}{m[2]}{m[1]}" if rng.random() < share else m[0], text)
    return WORD.sub(lambda m: rng.choice(OTHERS[m[1]]) if rng.random() < share else m[0], text)


class Settings(Part):
    """`path`: a local folder or hub name of a model that follows instructions, or none: by rule.
    `back`: what it is told to do with its own words then; two instructions to translate are a
    back-translation.
    """

    share: float = Field(1.0, ge=0, le=1)
    path: str | None = None
    instruction: str = (
        "Say this solution in other words, and keep its result.\nQuestion: {question}\n{solution}\n"
    )
    back: str | None = None
    temperature: float = Field(0.7, ge=0)
    max_new_tokens: int = Field(512, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _asks(self) -> Settings:
        if self.path is None and self.back is not None:
            raise ValueError("back is for a model; say which by path")
        for name, text in (("instruction", self.instruction), ("back", self.back)):
            if self.path is not None and text is not None and "{solution}" not in text:
                raise ValueError(f"{name} must say where the {{solution}} goes, got {text!r}")
        return self


class Attacker(Base):
    paper = "Pan et al. 2025, 2502.11598"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer's reasoning in other words, where its final answer stays."""
        reasoning = [
            split_answer(completion.text, resources.format)[0] for completion in completions
        ]
        write = self._by_rule if self.settings.path is None else self._by_model
        paraphrased = []
        for completion, before, after in zip(
            completions, reasoning, write(completions, reasoning, seed), strict=True
        ):
            new = with_text(completion, after + completion.text[len(before) :])
            same = resources.final(new) == resources.final(completion)
            paraphrased.append(new if after and same else completion)
        return paraphrased

    def _by_rule(
        self, completions: Sequence[Completion], reasoning: Sequence[str], seed: int
    ) -> list[str]:
        drawn = (random.Random(f"paraphrase {seed} {one.prompt_id}") for one in completions)
        return [
            by_rule(text, self.settings.share, rng)
            for text, rng in zip(reasoning, drawn, strict=True)
        ]

    def _by_model(
        self, completions: Sequence[Completion], reasoning: Sequence[str], seed: int
    ) -> list[str]:
        s = self.settings
        assert s.path is not None
        model = load(s.path, temperature=s.temperature, max_new_tokens=s.max_new_tokens)
        texts = {
            i: text
            for i, (one, text) in enumerate(zip(completions, reasoning, strict=True))
            if text and random.Random(f"paraphrase {seed} {one.prompt_id}").random() < s.share
        }
        for instruction in filter(None, (s.instruction, s.back)):
            # Where it says nothing, or does not end, the answer stays as it was.
            places = [i for i, text in texts.items() if text]
            requests = [_request(instruction, completions[i], texts[i]) for i in places]
            written = model.generate(requests, seed=seed, interface=Interface())
            texts |= {
                i: one.text.strip() if one.finished else ""
                for i, one in zip(places, written, strict=True)
            }
        return [texts.get(i, text) for i, text in enumerate(reasoning)]


def _request(instruction: str, answer: Completion, reasoning: str) -> Prompt:
    fields = {"question": answer.prompt, "solution": reasoning}
    text = re.sub(r"{(question|solution)}", lambda match: fields[match[1]], instruction)
    return Prompt(answer.prompt_id, text)
