"""The contract of an attacker's part, by its name: what it returns, and what it leaves alone."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from distill.attackers import AttackerResources
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from experiments.contracts import NotApplicable, require
from experiments.settings.catalog import cached
from experiments.settings.components import load_module
from experiments.settings.entries import read_config
from experiments.tasks import Item
from experiments.tasks.trace import Settings as Program
from experiments.tasks.trace import Task

ALWAYS = {"public", "final", "format", "tools", "recipe"}
"""What every part may look at without saying so."""
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
"""Small values of settings that cost time, by the names that shipped parts give them."""
BUDGET = 6
TASK = Task(Program.model_validate({}))
RECIPE = TrainingConfig(max_length=96, steps=6, batch_size=4)


@functools.cache
def questions() -> list[Item]:
    """Questions of the query split, twice as many as are asked."""
    return TASK.items("query", 2 * BUDGET, 0)


def fresh(seed: int) -> LanguageModel:
    """An untrained student.

    Args:
        seed: of its weights.
    """
    tokenizer = character_tokenizer(TASK.alphabet)
    network = llama(tokenizer, hidden_size=16, num_layers=2, num_heads=2, max_length=96, seed=seed)
    return LanguageModel(network, tokenizer, max_new_tokens=40)


@functools.cache
def teacher() -> LanguageModel:
    """A random teacher that samples."""
    return replace(fresh(5), temperature=1.0)


def folder_of(name: str) -> str:
    """Where a part acts.

    Args:
        name: as `clean/vote`; one without a folder is how a student learns.
    """
    return name.partition("/")[0] if "/" in name else "learn"


def build(name: str) -> Any:
    """The part with the settings of its config, small where they cost time.

    Args:
        name: of the part.
    """
    module, settings = load_module("attacker", name), read_config("attacker", name).settings
    quick = {key: value for key, value in QUICK.items() if key in settings}
    return module.Attacker(module.Settings(**settings | quick))


def bought(name: str) -> list[Completion]:
    """Two answers to each of some questions, one of them solved, with what a random teacher would
    release for it.

    Args:
        name: of the part that is to learn from them.
    """
    full = build(name).needs_interface == "full"
    interface = Interface("full") if full else Interface("top_k", 8)
    begun = [replace(item.prompt, begin=item.solution) for item in questions()[:BUDGET]]
    again = [replace(item.prompt, attempt=1) for item in questions()[:BUDGET]]
    first = teacher().generate(begun, seed=0, interface=interface)
    second = teacher().generate(again, seed=0, interface=interface)
    pairs = zip(first, second, strict=True)
    return [one for a, b in pairs for one in (a, replace(b, prompt_id=f"{b.prompt_id}~1"))]


def as_completions(items: Sequence[Item]) -> list[Completion]:
    """Items as answers that are their solutions.

    Args:
        items: with solutions.
    """
    return [Completion.to(item.prompt, item.solution) for item in items]


def resources() -> AttackerResources:
    """What an attacker may have beside the answers, all of it."""
    references = {item.prompt.conversation: item.reference for item in questions()}
    return AttackerResources(
        public=as_completions(TASK.public(BUDGET, 0)),
        worked=as_completions(questions()[BUDGET:]),
        final=lambda answer: TASK.final(answer.text, answer.finished),
        format=TASK.format,
        check=lambda answer: (
            TASK.grade(answer.text, references[answer.question.conversation], answer.finished)
            == "right"
        ),
        fresh=fresh,
        recipe=RECIPE,
        defense=list,
        teacher=teacher(),
        pilot=fresh(1),
        tokenizer=teacher().tokenizer,
    )


class Watched(AttackerResources):
    """Resources that note which of them are looked at, in `LOOKED`."""

    def __getattribute__(self, name: str) -> Any:
        if name in {field.name for field in fields(AttackerResources)}:
            LOOKED.add(name)
        return super().__getattribute__(name)


LOOKED: set[str] = set()


def act(name: str, resources: AttackerResources, seed: int = 0) -> Any:
    """What a part returns, as something that can be compared.

    Args:
        name: of the part.
        resources: what the attacker has.
        seed: of what is drawn.
    """
    part = build(name)
    match folder_of(name):
        case "ask":
            return part.ask([item.prompt for item in questions()], BUDGET, resources, seed=seed)
        case "clean" | "repair":
            cleaned = part.clean(bought(name), resources, seed=seed)
            return [(a.prompt_id, a.text, a.token_ids, a.finished, *_rows(a)) for a in cleaned]
        case "learn":
            student = part.train(bought(name), fresh(seed), RECIPE, seed=seed, resources=resources)
            return _weights(student.network)
        case _:
            return _weights(part.follow(fresh(2), RECIPE, resources, seed=seed).network)


def _rows(answer: Completion) -> list[bytes]:
    rows = answer.logprobs
    return [] if rows is None else [rows.ids_TK.tobytes(), rows.values_TK.tobytes()]


def _weights(network: Any) -> list[bytes]:
    values = network.state_dict().values()
    return [value.detach().contiguous().numpy().tobytes() for value in values]


@cached
def watched_act(name: str) -> tuple[Any, frozenset[str]]:
    """What a part returns, and which resources it looked at.

    Args:
        name: of the part.
    """
    LOOKED.clear()
    return act(name, Watched(**vars(resources()))), frozenset(LOOKED)


def the_same_seed_gives_the_same_bytes(name: str) -> None:
    first, _ = watched_act(name)
    torch.manual_seed(12345)  # nothing is drawn from the process's own generator
    require(act(name, resources()) == first, "a second call with the same seed differs")


def only_what_it_declares_is_looked_at(name: str) -> None:
    undeclared = watched_act(name)[1] - ALWAYS - {*build(name).needs}
    require(not undeclared, f"it looks at {', '.join(sorted(undeclared))}; say so in `needs`")


def cleaning_keeps_questions_and_forgets_what_no_longer_fits(name: str) -> None:
    if folder_of(name) not in ("clean", "repair"):
        raise NotApplicable("it cleans nothing")
    answers = bought(name)
    before = copy.deepcopy(answers)
    cleaned = build(name).clean(answers, resources(), seed=0)
    require(bool(cleaned), "it keeps no answer")
    more = {a.prompt for a in cleaned} - {a.prompt for a in [*answers, *resources().worked]}
    require(not more, f"it answers what nobody asked: {next(iter(more), '')[:60]!r}")
    texts = {answer.text for answer in before}
    stale = [a for a in cleaned if a.text not in texts and (a.logprobs is not None or a.token_ids)]
    require(not stale, "a text that it changed keeps the token ids or logprobs of the old one")
    unchanged = [a.text for a in answers] == [a.text for a in before]
    require(unchanged, "it changes the answers that it is given")


def the_student_that_is_followed_up_is_left_as_it_was(name: str) -> None:
    if folder_of(name) != "follow":
        raise NotApplicable("it follows no student")
    model = fresh(2)
    before = _weights(model.network)
    build(name).follow(model, RECIPE, resources(), seed=0)
    require(_weights(model.network) == before, "it changes the weights of the student it is given")


def no_more_questions_than_the_budget_are_asked_but_by_repeats(name: str) -> None:
    if folder_of(name) != "ask":
        raise NotApplicable("it asks nothing")
    prompts = act(name, resources())
    require(all(isinstance(one, Prompt) for one in prompts), "it asks what is no Prompt")
    most = BUDGET if name == "ask/select" else len(questions())
    number = len({one.id for one in prompts})
    require(number <= most, f"it asks {number} questions, {most} are there")
    distinct = {(one.id, one.attempt) for one in prompts}
    require(len(distinct) == len(prompts), "it asks the same attempt of a question twice")


CLAIMS = (
    the_same_seed_gives_the_same_bytes,
    only_what_it_declares_is_looked_at,
    cleaning_keeps_questions_and_forgets_what_no_longer_fits,
    the_student_that_is_followed_up_is_left_as_it_was,
    no_more_questions_than_the_budget_are_asked_but_by_repeats,
)
