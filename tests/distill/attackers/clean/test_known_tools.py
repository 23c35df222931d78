"""The attacker's own definitions against decoy calls: what it repairs, and what a student of each
says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from defenses import ProviderResources
from defenses.release import decoy_calls
from distill.attackers import AttackerResources, sft
from distill.attackers.clean import known_tools
from distill.completions import Completion, Interface
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.tool_calls import row_of
from experiments.settings.entries import build_task
from experiments.stages.resources import solutions
from tests.distill.attackers.clean.traces import made, texts

TASK = build_task("tools")
SOLD = [replace(one, token_ids=(1, 2)) for one in solutions(TASK.items("query", 6, 0))]
OWN = AttackerResources(format=TASK.format, tools=TASK.tools)
PROVIDER = ProviderResources(format=TASK.format, tools=TASK.tools)


def decoyed(**settings: object) -> list[Completion]:
    defense = decoy_calls.Defense(decoy_calls.Settings(**settings), PROVIDER)
    return [defense.edit(one) for one in SOLD]


def cleaned(answers: list[Completion], resources: AttackerResources = OWN) -> list[Completion]:
    return list(made(known_tools).clean(answers, resources, seed=0))


def test_undefended_answers_stay_with_their_tokens():
    assert cleaned(SOLD) == SOLD and SOLD[0].token_ids


@pytest.mark.parametrize("settings", [{}, {"calls": 4}, {"share": 0.5, "tools": 9, "key": "k"}])
def test_answers_with_decoys_are_as_they_were_before(settings):
    answers = decoyed(**settings)
    changed = sum(a.text != b.text for a, b in zip(answers, SOLD, strict=True))
    assert changed == len(SOLD) if "share" not in settings else 0 < changed < len(SOLD)
    assert texts(cleaned(answers)) == texts(SOLD)


def test_a_repaired_answer_has_no_token_ids_and_a_cut_one_stays():
    (answer,) = cleaned([replace(decoyed()[0], token_ids=(1, 2))])
    assert answer.token_ids == ()
    cut = replace(decoyed()[0], finished=False)
    assert cleaned([cut]) == [cut]


def test_who_defined_nothing_drops_nothing():
    assert cleaned(decoyed(), replace(OWN, tools=())) == decoyed()


def spoken(answers: list[Completion]) -> set[str]:
    """The functions that a student of these first turns calls when it is asked the same."""
    tokenizer = character_tokenizer(TASK.alphabet, has_turns=True)
    size = {"hidden_size": 32, "num_layers": 1, "num_heads": 4, "max_length": 64}
    student = LanguageModel(llama(tokenizer, seed=0, **size), tokenizer, max_new_tokens=24)
    recipe = TrainingConfig(max_length=64, steps=120, batch_size=4)
    trained = sft.Attacker(sft.Settings()).train(answers, student, recipe, seed=0)
    student = replace(student, network=trained.network.eval())
    prompts = [one.question for one in answers]
    rows = [
        row_of(one.text, TASK.format, one.finished)
        for one in student.generate(prompts, seed=0, interface=Interface())
    ]
    assert sum(row is not None for row in rows) > len(rows) / 2  # it has learned to call
    return {call.function for row in rows if row for call in row.calls}


def test_a_student_says_decoys_unless_they_were_dropped():
    looks = [one for one in decoyed() if not one.history and "get" in one.text]
    assert len(looks) >= 4
    decoys = {*decoy_calls.decoy_names(TASK.tools, 2, "decoy")}
    assert {"get"} < spoken(looks) <= {"get"} | decoys
    assert spoken(cleaned(looks)) == {"get"}
