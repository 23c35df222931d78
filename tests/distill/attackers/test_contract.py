"""What every part of an attacker keeps, whatever it does; configs are found here, so a new part
edits nothing.
"""

from __future__ import annotations

import copy
import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from distill.attackers import ORDER, AttackerResources
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.student import StudentSettings
from experiments.tasks.trace import Settings as Program
from experiments.tasks.trace import Task

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "attacker"
RAW = {
    str(path.relative_to(CONFIGS).with_suffix("")): yaml.safe_load(path.read_text())
    for path in CONFIGS.rglob("*.yaml")
}
NAMES = sorted(name for name, raw in RAW.items() if "attacks" not in raw)
ALWAYS = {"public", "final", "mark", "recipe"}
QUICK = {
    "rounds": 1,
    "samples": 2,
    "steps": 2,
    "periods": 1,
    "phases": 1,
    "k": 2,
    "epochs": 1,
    "n": 2,
    "table": 200,
    "hidden": 8,
    "draws": 4,
    "pool": 2,
    "group": 2,
}
TASK = Task(Program())
TOKENIZER = character_tokenizer(TASK.alphabet)
RECIPE = StudentSettings(
    hidden_size=16, num_layers=2, num_heads=2, max_length=96, steps=6, batch_size=4
)
ASKED = TASK.items("query", 12, 0)
BUDGET = 6


def fresh(seed: int) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=16, num_layers=2, num_heads=2, max_length=96, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=40)


TEACHER = replace(fresh(5), temperature=1.0)


def sold(name: str) -> list[Completion]:
    """Two answers to each of some questions, one of them solved, with what a random teacher would
    release for it.
    """
    interface = Interface("full") if made(name).needs_interface == "full" else Interface("top_k", 8)
    prompts = [replace(i.prompt, begin=i.solution) for i in ASKED[:BUDGET]]
    said = TEACHER.generate(prompts, seed=0, interface=interface)
    more = TEACHER.generate(
        [replace(i.prompt, attempt=1) for i in ASKED[:BUDGET]], seed=0, interface=interface
    )
    return [
        one
        for a, b in zip(said, more, strict=True)
        for one in (a, replace(b, prompt_id=f"{b.prompt_id}~1"))
    ]


def solved(items: Any) -> list[Completion]:
    return [Completion(item.prompt.id, item.prompt.text, item.solution) for item in items]


def means() -> AttackerResources:
    references = {item.prompt.text: item.reference for item in ASKED}
    return AttackerResources(
        public=solved(TASK.public(BUDGET, 0)),
        worked=solved(ASKED[BUDGET:]),
        final=TASK.final,
        mark=TASK.mark,
        check=lambda answer: TASK.grade(answer.text, references[answer.prompt]) == "right",
        fresh=fresh,
        recipe=RECIPE,
        defense=list,
        teacher=TEACHER,
        pilot=fresh(1),
    )


class Watched(AttackerResources):
    """Own things that note which of them are looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in {one.name for one in fields(AttackerResources)}:
            LOOKED.add(name)
        return super().__getattribute__(name)


LOOKED: set[str] = set()


def made(name: str) -> Any:
    module = importlib.import_module(f"distill.attackers.{name.replace('/', '.')}")
    shown = RAW[name]["settings"]
    return module.Attacker(
        module.Settings(**shown | {key: value for key, value in QUICK.items() if key in shown})
    )


def acted(name: str, own: AttackerResources, seed: int = 0) -> Any:
    """What a part returns, as something that can be compared."""
    one, said = made(name), sold(name)
    match name.partition("/")[0] if "/" in name else "learn":
        case "ask":
            return one.ask([item.prompt for item in ASKED], BUDGET, own, seed=seed)
        case "clean" | "repair":
            kept = one.clean(said, own, seed=seed)
            return [(a.prompt_id, a.text, a.token_ids, a.finished, *_rows(a)) for a in kept]
        case "learn":
            return _weights(one.train(said, fresh(seed), RECIPE, seed=seed, own=own).network)
        case "follow":
            return _weights(one.follow(fresh(2), RECIPE, own, seed=seed).network)
        case _:
            raise AssertionError(name)


def _rows(answer: Completion) -> list[bytes]:
    kept = answer.logprobs
    return [] if kept is None else [kept.ids_TK.tobytes(), kept.values_TK.tobytes()]


def _weights(network: Any) -> list[bytes]:
    return [
        value.detach().contiguous().numpy().tobytes() for value in network.state_dict().values()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_config_shows_every_setting(name):
    module = importlib.import_module(f"distill.attackers.{name.replace('/', '.')}")
    assert RAW[name]["name"] == name and {*RAW[name]["settings"]} == {*module.Settings.model_fields}
    assert (CONFIGS / f"{name}.yaml").read_text().startswith("# ")


def test_every_file_has_a_config_and_a_known_place():
    found = {
        str(path.relative_to(ROOT / "distill" / "attackers").with_suffix(""))
        for path in (ROOT / "distill" / "attackers").rglob("*.py")
        if not path.name.startswith("_")
    }
    assert found == {*NAMES} and {name.partition("/")[0] for name in found if "/" in name} <= {
        *ORDER
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_only_what_is_declared_is_looked_at(name):
    LOOKED.clear()
    first = acted(name, Watched(**vars(means())))
    assert LOOKED <= ALWAYS | {*made(name).needs}
    torch.manual_seed(12345)  # nothing is drawn from the process's own generator
    assert acted(name, means()) == first


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("clean/", "repair/"))])
def test_cleaning_keeps_questions_and_forgets_what_no_longer_fits(name):
    said = sold(name)
    before = copy.deepcopy(said)
    kept = made(name).clean(said, means(), seed=0)
    assert kept and {a.prompt for a in kept} <= {a.prompt for a in said} | {
        a.prompt for a in means().worked
    }
    texts = {a.text for a in before}
    assert all(a.logprobs is None and a.token_ids == () for a in kept if a.text not in texts)
    assert [a.text for a in said] == [a.text for a in before]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("follow/")])
def test_the_student_that_is_followed_up_is_left_as_it_was(name):
    model = fresh(2)
    before = _weights(model.network)
    made(name).follow(model, RECIPE, means(), seed=0)
    assert _weights(model.network) == before


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ask/")])
def test_no_more_questions_than_the_budget_are_asked_but_by_repeats(name):
    prompts = acted(name, means())
    assert all(isinstance(one, Prompt) for one in prompts)
    assert len({one.id for one in prompts}) <= (BUDGET if name == "ask/select" else len(ASKED))
    assert len({(one.id, one.attempt) for one in prompts}) == len(prompts)
