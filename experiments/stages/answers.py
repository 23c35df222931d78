"""Stage `answers`: what is asked, and what was said."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill import logprob_cache
from distill.completions import Completion, Interface, Prompt, write_bytes, write_completions
from experiments.settings.components import build, build_defense
from experiments.stages.guarded import guarded
from experiments.stages.means import means, solved
from experiments.stages.opened import opened
from experiments.stages.served import questions
from experiments.stages.stage import canonical

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """What the attacker holds: the (defended) teacher's answers, those to other prompts, or what
    needs no teacher.

    The provider's own traces are answers too, to questions of the split that the teacher learned
    from.
    """
    task = build("task", settings["task"])
    if settings["source"] in ("public", "self"):
        items = task.public(settings["budget"], settings["seed"])
        said = solved(items)
        if settings["source"] == "self":
            said = _verified(task, items, opened(inputs[0]), settings["seed"])
        return write_completions(out / "answers.parquet", said)
    if "ask" in settings:
        return _asked(task, settings, inputs, out)
    if settings["source"] == "leaked":
        return _leaked(task, settings, inputs, out)
    model = opened(inputs[0])
    if settings["source"] == "traces":
        train_items = task.train_items(settings["skip"] + settings["budget"], settings["seed"])
        prompts = [item.prompt for item in train_items[settings["skip"] :]]
    else:
        prompts = [
            item.prompt for item in task.items("query", settings["budget"], settings["seed"])
        ]
    said = guarded(task, model, settings, inputs[1:]).generate(
        prompts, seed=settings["seed"], interface=Interface(**settings["profile"])
    )
    if settings["source"] == "shuffled":
        said = _shuffled(said, settings["seed"])
    _keep(model, prompts, said, out)


def _asked(task: Any, settings: Any, inputs: list[Path], out: Path) -> None:
    """Answers to what an attack chose to ask, each kept with the question itself, whatever form it
    was sent in.
    """
    model, given = opened(inputs[0]), inputs[1 : len(settings["given"]) + 1]
    pilots = inputs[len(given) + 1 :]
    own = means(task, settings, pilot=opened(pilots[0]) if pilots else None)
    items = task.items("query", settings["own"]["pool"] * settings["budget"], settings["seed"])
    question = {item.prompt.id: item.prompt.text for item in items}
    prompts = [item.prompt for item in items]
    for one in settings["ask"]:
        prompts = build("attacker", one).ask(
            prompts, settings["budget"], own, seed=settings["seed"]
        )
    provider = guarded(task, model, settings, given)
    said = provider.generate(
        prompts, seed=settings["seed"], interface=Interface(**settings["profile"])
    )
    kept = [
        replace(
            answer,
            prompt=question[sent.id],
            prompt_id=f"{sent.id}~{sent.attempt}" if sent.attempt else sent.id,
        )
        for answer, sent in zip(said, prompts, strict=True)
    ]
    _keep(model, prompts, kept, out)


def _leaked(task: Any, settings: Any, inputs: list[Path], out: Path) -> None:
    """Answers to exactly the questions that a campaign was served: it goes through its list, and
    some were reduced.
    """
    model, given = opened(inputs[0]), len(settings["given"])
    happened = json.loads((inputs[-1] / "run.json").read_text())
    reduced = questions(
        happened, settings["stands_for"], settings["per_question"], settings["budget"]
    )
    prompts = [item.prompt for item in task.items("query", settings["budget"], settings["seed"])][
        : len(reduced)
    ]
    full = guarded(task, model, settings, inputs[1 : 1 + given])
    less = build_defense(settings["reduced"])(full)
    said: dict[str, Completion] = {}
    for provider, which in ((full, False), (less, True)):
        asked = [prompt for prompt, short in zip(prompts, reduced, strict=True) if short is which]
        answered = (
            provider.generate(asked, seed=settings["seed"], interface=Interface()) if asked else []
        )
        said |= {answer.prompt_id: answer for answer in answered}
    _keep(model, prompts, [said[prompt.id] for prompt in prompts], out)


def _keep(model: Any, prompts: list[Prompt], said: list[Completion], out: Path) -> None:
    """Write answers, what was exchanged for them, and their logprobs where they were released."""
    write_completions(out / "answers.parquet", [replace(answer, logprobs=None) for answer in said])
    encode = getattr(model, "encode", None)
    asked = {
        "exchanges": len(said),
        "tokens_in": sum(len(encode(p)) for p in prompts) if encode else None,
        "tokens_out": sum(_length(model.tokenizer, answer) for answer in said) if encode else None,
    }
    write_bytes(out / "asked.json", canonical(asked).encode())
    if said and said[0].logprobs is not None:
        logprob_cache.write(
            out / "signals", said, tokenizer=model.vocabulary, vocabulary=len(model.tokenizer)
        )


def _length(tokenizer: Any, answer: Completion) -> int:
    """Tokens of an answer as it is billed; one whose ids were withheld is counted by its text."""
    return len(answer.token_ids or tokenizer(answer.text, add_special_tokens=False).input_ids)


def _verified(task: Any, items: list[Any], model: Any, seed: int) -> list[Completion]:
    """A student's own answers where they are right (the attacker owns these solutions), else the
    solution.

    Their text alone: where a student says just the solutions, these are the same answers and the
    same work.
    """
    said = model.generate([item.prompt for item in items], seed=seed, interface=Interface())
    right = [
        str(task.grade(answer.text, item.reference)) == "right"
        for item, answer in zip(items, said, strict=True)
    ]
    texts = [
        answer.text if good else item.solution
        for item, answer, good in zip(items, said, right, strict=True)
    ]
    return [
        Completion(item.prompt.id, item.prompt.text, text)
        for item, text in zip(items, texts, strict=True)
    ]


def _shuffled(said: list[Completion], seed: int) -> list[Completion]:
    texts = [answer.text for answer in said]
    random.Random(seed).shuffle(texts)
    return [
        replace(answer, text=text, token_ids=()) for answer, text in zip(said, texts, strict=True)
    ]
