"""Relabelling: no defence that keeps the likeliest token changes a bit of what such an attacker
trains on.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from defenses import ProviderResources
from distill.attackers import NOTHING, logprob_kd
from distill.attackers.repair import relabel
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from tests.defenses.release.rows import distributions, released, seeds

CONFIGS = Path(__file__).parents[4] / "configs" / "defense"
TOKENIZER = character_tokenizer("0123456789+-=;# abcdefgh")
PROMPTS = [Prompt(str(i), f"{i}+{7 * i}=") for i in range(8)]
ATTACKER = relabel.Attacker(relabel.Settings())


def model(seed: int, temperature: float = 0.0, hidden: int = 16) -> LanguageModel:
    network = llama(
        TOKENIZER, hidden_size=hidden, num_layers=1, num_heads=2, max_length=48, seed=seed
    )
    return LanguageModel(network, TOKENIZER, temperature=temperature, max_new_tokens=12)


GIVEN = ProviderResources(proxy=model(3, hidden=8))


def keepers() -> dict[str, Any]:
    """Every shipped defence that says it keeps the likeliest token and changes no text, at five
    strengths.
    """
    defenses = {}
    for path in sorted(CONFIGS.rglob("*.yaml")):
        name = str(path.relative_to(CONFIGS).with_suffix(""))
        module = importlib.import_module(f"defenses.{name.replace('/', '.')}")
        shown, strength = (
            yaml.safe_load(path.read_text())["settings"],
            module.Defense.traits.strength,
        )
        for share in (None, 0.0, 0.25, 0.5, 1.0) if strength else (None,):
            value = {} if share is None else {strength.name: strength.interpolate(share)}
            whole = isinstance(shown.get(strength.name) if strength else None, int)
            settings = shown | {key: round(v) if whole else v for key, v in value.items()}
            defense = module.Defense(module.Settings(**settings), GIVEN)
            if defense.traits.keeps_argmax and defense.traits.acts_on in ("none", "logprobs"):
                defenses[f"{name} {value or ''}"] = defense
    return defenses


KEEPERS = keepers()


def training_set(answers: list[Completion]) -> list[tuple[Any, ...]]:
    """All that the student of relabelled answers is trained on."""
    examples = [
        logprob_kd.example(one, TOKENIZER) for one in ATTACKER.clean(answers, NOTHING, seed=0)
    ]
    return [
        (
            e.prompt_ids,
            e.answer_ids,
            e.logprobs.ids_TK.tobytes(),
            e.logprobs.values_TK.tobytes(),
            e.weight,
        )
        for e in examples
        if e.logprobs is not None
    ]


def test_the_defences_that_are_known_to_keep_it_are_among_those_found():
    names = {name.partition(" ")[0] for name in KEEPERS}
    assert names >= {
        "release/top_k",
        "release/rounding",
        "release/modelguard_w",
        "release/quantised",
        "decoding/mad",
    }


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "interface", [Interface("top_k", 5), Interface("full")], ids=["top_k", "full"]
)
def test_a_defence_that_keeps_the_argmax_leaves_the_undefended_training_set_bit_for_bit(
    temperature, interface
):
    teacher = model(1, temperature)
    clean = teacher.generate(PROMPTS, seed=0, interface=interface)
    expected, changed = training_set(clean), set()
    assert len(expected) == len(PROMPTS)
    for name, defense in KEEPERS.items():
        defended = defense(teacher).generate(PROMPTS, seed=0, interface=interface)
        assert training_set(defended) == expected, name
        if any(
            a.logprobs.values_TK.tobytes() != b.logprobs.values_TK.tobytes()
            for a, b in zip(defended, clean, strict=True)
        ):
            changed.add(name.partition(" ")[0])
    # The test would say nothing of defences that had not acted.
    assert changed >= {
        "release/rounding",
        "release/modelguard_w",
        "release/quantised",
        "decoding/mad",
    }


@given(seeds)
def test_it_holds_for_rows_that_no_tiny_teacher_has(seed):
    y_TK = distributions(seed, rows=8, size=12)
    y_TK[::2, 1] = y_TK[::2, 0] * (
        1 - 1e-4
    )  # a second token that is nearly as likely, under a lower id
    rows = released(y_TK / y_TK.sum(-1, keepdims=True))
    rows = Logprobs(rows.ids_TK[:, ::-1].copy(), rows.values_TK)
    expected = relabel.relabel(rows)
    for name, defense in KEEPERS.items():
        if name.startswith("release/"):
            got = relabel.relabel(defense.edit(Completion("a", "?", "", logprobs=rows)).logprobs)
            assert (got.ids_TK == expected.ids_TK).all() and (
                got.values_TK == expected.values_TK
            ).all(), name


def test_the_order_tells_equals_apart():
    values = np.log(np.array([[0.5, 0.3], [0.4, 0.4]], np.float32))
    labels = relabel.relabel(Logprobs(np.array([[4, 2], [9, 3]], np.int32), values))
    assert labels.ids_TK.tolist() == [[4], [9]] and labels.values_TK.tolist() == [[0], [0]]


@given(seeds, st.integers(1, 6))
def test_one_entry_a_row_and_again_the_same(seed, k):
    rows = released(distributions(seed)[:, :k])
    once = relabel.relabel(rows)
    twice = relabel.relabel(once)
    assert once.ids_TK.shape == (3, 1) and (once.ids_TK[:, 0] == rows.ids_TK[:, 0]).all()
    assert (twice.ids_TK == once.ids_TK).all() and (twice.values_TK == once.values_TK).all()


def test_text_and_tokens_stay_and_no_logprobs_are_refused():
    answer = Completion("a", "1+1=", "2", (4,), True, released(distributions(0)))
    relabelled = ATTACKER.clean([answer], NOTHING, seed=0)[0]
    assert (relabelled.text, relabelled.token_ids, relabelled.finished) == (
        answer.text,
        answer.token_ids,
        answer.finished,
    )
    with pytest.raises(BadInput, match="repair/relabel: answer 'b' has no logprobs"):
        ATTACKER.clean([Completion("b", "?", "!")], NOTHING, seed=0)
