"""The main path, read downwards: teacher -> guard -> answers -> student -> follow -> exam.

Each stage writes its result into a folder; it sees its settings and the opened folders of its inputs, nothing else. The
planner decides what is run.
"""

from __future__ import annotations

import functools
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from defenses import Given, teach
from distill.answers import Answer, BadInput, Profile, Prompt, digest, read_answers, write_answers, write_bytes
from distill.attackers import Own
from experiments.campaigns import runs
from experiments.config import defended, makers
from experiments.entries import part
from experiments.measure.utility import strength_at
from experiments.plan import PROVIDER, WORKED, Stage
from experiments.store import Store, canonical


def run(stage: Stage, root: Path, threads: int = 1) -> float:
    """Make one stage's result in the store; its inputs are there already. Returns the seconds that it took."""
    import torch

    torch.set_num_threads(threads)
    store = Store(root)
    inputs = [store.open(one.kind, one.key) for one in stage.inputs]
    make = {"teacher": teacher, "guard": guard, "answers": answers, "student": student, "follow": follow, "exam": exam,
            "search": search, "calibration": runs.calibrate, "campaign": runs.run}  # fmt: skip
    folder = store.make(
        stage.kind, stage.key, lambda out: make[stage.kind](stage.settings, inputs, out), {"threads": threads}
    )
    return float(json.loads((folder / "done.json").read_text())["seconds"])


def teacher(settings: Any, inputs: list[Path], out: Path) -> None:
    """Train the teacher by recipe on worked solutions of its own split, or write down where it comes from."""
    from distill.attackers.sft import Attacker, Settings
    from distill.models import read_recorded, save

    if settings.get("kind") == "recorded":
        recorded = read_recorded(Path(settings["path"]), settings["prompt"], settings["answer"])
        return write_answers(out / "recorded.parquet", list(recorded.answers.values()))
    if settings.get("kind") == "pretrained":
        return write_bytes(out / "pretrained.json", canonical(settings).encode())
    task = part("task", settings["task"])
    items = task.lessons(settings["items"], settings["seed"])
    said = _solved(items)
    model, report = _trained(task, settings, Attacker(Settings()), said, Own(), out)
    save(model, out)
    write_bytes(out / "training.json", canonical(report | {"items": len(items)}).encode())


def opened(folder: Path) -> Any:
    """The model in a teacher's or a student's folder."""
    from distill.models import RecordedModel, load

    if (folder / "recorded.parquet").is_file():
        said = read_answers(folder / "recorded.parquet")
        return RecordedModel({answer.prompt: answer for answer in said}, "recorded teacher")
    if (folder / "pretrained.json").is_file():
        settings = json.loads((folder / "pretrained.json").read_text())
        decoding = {name: settings[name] for name in ("temperature", "top_p", "max_new_tokens", "batch_size")}
        return load(settings["path"], **decoding)
    shape = json.loads((folder / "training.json").read_text())["decoding"]
    return load(str(folder), **shape)


def guard(settings: Any, inputs: list[Path], out: Path) -> None:
    """Prepare a defence: find its strength where that is matched to what it costs, and teach what learns."""
    from safetensors.torch import save_file

    task, model = part("task", settings["task"]), opened(inputs[0])
    given, spec, matched = _given(task, settings["given"], inputs[1:]), settings["defense"], None
    if settings["match"]:
        spec, matched = _matched(task, model, spec, given, settings["match"])
    numbers: dict[str, float] = {}
    for place, learned in enumerate(teach(makers(spec), given, model)):
        save_file({name: tensor.contiguous() for name, tensor in learned.items()}, out / f"{place}.safetensors")
        numbers |= {f"{spec[place]['name']}.{name}": float(one) for name, one in learned.items() if not one.dim()}
    write_bytes(out / "guard.json", canonical({"defense": spec, "matched": matched, "numbers": numbers}).encode())


def _given(task: Any, names: list[str], folders: list[Path]) -> Given:
    """What the provider has, from the results that it was handed; it can grade answers to its own prompts."""
    held = dict(zip(names, folders, strict=True))
    traces = read_answers(held["traces"] / "answers.parquet") if "traces" in held else []
    asked = {item.prompt.id: item.reference for item in task.lessons(2 * len(traces), PROVIDER)}
    models = {name: opened(held[name]) for name in ("proxy", "rewriter") if name in held}
    return Given(**models, traces=traces, grade=lambda said: task.grade(said.text, asked[said.prompt_id]) == "right")


def _matched(task: Any, model: Any, spec: list[Any], given: Given, match: Any) -> tuple[list[Any], dict[str, Any]]:
    """The spec with its strength set so that the teacher loses the points it is matched to, and how that was found."""
    items = task.items("select", match["items"], 0)
    knob = defended(spec).parts[match["part"]].knob

    def set_to(share: float) -> list[Any]:
        one = spec[match["part"]]
        value = round(knob.at(share)) if isinstance(knob.strongest, int) else knob.at(share)
        changed = one | {"settings": one["settings"] | {knob.name: value}}
        return [changed if place == match["part"] else other for place, other in enumerate(spec)]

    def right(guarded: Any) -> float:
        said = [guarded.answer([i.prompt for i in items], seed=s, profile=Profile()) for s in range(match["seeds"])]
        graded = [task.grade(a.text, i.reference) == "right" for one in said for a, i in zip(one, items, strict=True)]
        return sum(graded) / len(graded)

    def lost(share: float) -> float:
        asked = set_to(share)
        learned = teach(makers(asked), given, model)
        return 100 * (clean - right(defended(asked, given, learned)(model)))

    clean = right(model)
    share, loss, tried = strength_at(lost, match["points"])
    spec = set_to(share)
    value = spec[match["part"]]["settings"][knob.name]
    return spec, {"knob": knob.name, "value": value, "points": match["points"], "loss": loss, "tried": tried}


def _guarded(task: Any, model: Any, settings: Any, folders: list[Path]) -> Any:
    """The model behind a stage's defence, which is handed the results that the settings name."""
    from safetensors.torch import load_file

    spec, learned = settings["defense"], []
    held = dict(zip(settings["given"], folders, strict=True))
    prepared = held.pop("guard", None)
    if prepared:
        spec = json.loads((prepared / "guard.json").read_text())["defense"]
        learned = [load_file(prepared / f"{place}.safetensors") for place in range(len(spec))]
    return defended(spec, _given(task, [*held], [*held.values()]), learned)(model)


def answers(settings: Any, inputs: list[Path], out: Path) -> None:
    """What the attacker holds: the (defended) teacher's answers, those to other prompts, or what needs no teacher.

    The provider's own traces are answers too, to questions of the split that the teacher learned from.
    """
    task = part("task", settings["task"])
    if settings["source"] in ("public", "self"):
        items = task.public(settings["budget"], settings["seed"])
        said = _solved(items)
        if settings["source"] == "self":
            said = _verified(task, items, opened(inputs[0]), settings["seed"])
        return write_answers(out / "answers.parquet", said)
    if "ask" in settings:
        return _asked(task, settings, inputs, out)
    if settings["source"] == "leaked":
        return _leaked(task, settings, inputs, out)
    model = opened(inputs[0])
    if settings["source"] == "traces":
        lessons = task.lessons(settings["skip"] + settings["budget"], settings["seed"])
        prompts = [item.prompt for item in lessons[settings["skip"] :]]
    else:
        prompts = [item.prompt for item in task.items("query", settings["budget"], settings["seed"])]
    said = _guarded(task, model, settings, inputs[1:]).answer(
        prompts, seed=settings["seed"], profile=Profile(**settings["profile"])
    )
    if settings["source"] == "shuffled":
        said = _shuffled(said, settings["seed"])
    _keep(model, prompts, said, out)


def _asked(task: Any, settings: Any, inputs: list[Path], out: Path) -> None:
    """Answers to what an attack chose to ask, each kept with the question itself, whatever form it was sent in."""
    model, given = opened(inputs[0]), inputs[1 : len(settings["given"]) + 1]
    pilots = inputs[len(given) + 1 :]
    own = _means(task, settings, pilot=opened(pilots[0]) if pilots else None)
    items = task.items("query", settings["own"]["pool"] * settings["budget"], settings["seed"])
    question = {item.prompt.id: item.prompt.text for item in items}
    prompts = [item.prompt for item in items]
    for one in settings["ask"]:
        prompts = part("attacker", one).ask(prompts, settings["budget"], own, seed=settings["seed"])
    guarded = _guarded(task, model, settings, given)
    said = guarded.answer(prompts, seed=settings["seed"], profile=Profile(**settings["profile"]))
    kept = [
        replace(answer, prompt=question[sent.id], prompt_id=f"{sent.id}~{sent.attempt}" if sent.attempt else sent.id)
        for answer, sent in zip(said, prompts, strict=True)
    ]
    _keep(model, prompts, kept, out)


def _leaked(task: Any, settings: Any, inputs: list[Path], out: Path) -> None:
    """Answers to exactly the questions that a campaign was served: it goes through its list, and some were reduced."""
    model, given = opened(inputs[0]), len(settings["given"])
    happened = json.loads((inputs[-1] / "run.json").read_text())
    reduced = runs.questions(happened, settings["stands_for"], settings["per_question"], settings["budget"])
    prompts = [item.prompt for item in task.items("query", settings["budget"], settings["seed"])][: len(reduced)]
    full = _guarded(task, model, settings, inputs[1 : 1 + given])
    less = defended(settings["reduced"])(full)
    said: dict[str, Answer] = {}
    for provider, which in ((full, False), (less, True)):
        asked = [prompt for prompt, short in zip(prompts, reduced, strict=True) if short is which]
        answered = provider.answer(asked, seed=settings["seed"], profile=Profile()) if asked else []
        said |= {answer.prompt_id: answer for answer in answered}
    _keep(model, prompts, [said[prompt.id] for prompt in prompts], out)


def _keep(model: Any, prompts: list[Prompt], said: list[Answer], out: Path) -> None:
    """Write answers, what was exchanged for them, and their logprobs where they were released."""
    from distill import signals

    write_answers(out / "answers.parquet", [replace(answer, logprobs=None) for answer in said])
    encode = getattr(model, "encode", None)
    asked = {"exchanges": len(said), "tokens_in": sum(len(encode(p)) for p in prompts) if encode else None,
             "tokens_out": sum(_length(model.tokenizer, answer) for answer in said) if encode else None}  # fmt: skip
    write_bytes(out / "asked.json", canonical(asked).encode())
    if said and said[0].logprobs is not None:
        signals.write(out / "signals", said, tokenizer=model.vocabulary, vocabulary=len(model.tokenizer))


def _length(tokenizer: Any, answer: Answer) -> int:
    """Tokens of an answer as it is billed; one whose ids were withheld is counted by its text."""
    return len(answer.token_ids or tokenizer(answer.text, add_special_tokens=False).input_ids)


def _solved(items: list[Any]) -> list[Answer]:
    return [Answer(item.prompt.id, item.prompt.text, item.solution) for item in items]


def _verified(task: Any, items: list[Any], model: Any, seed: int) -> list[Answer]:
    """A student's own answers where they are right (the attacker owns these solutions), else the solution."""
    said = model.answer([item.prompt for item in items], seed=seed, profile=Profile())
    return [
        answer if str(task.grade(answer.text, item.reference)) == "right"
        else Answer(item.prompt.id, item.prompt.text, item.solution)
        for item, answer in zip(items, said, strict=True)
    ]  # fmt: skip


def _shuffled(said: list[Answer], seed: int) -> list[Answer]:
    texts = [answer.text for answer in said]
    random.Random(seed).shuffle(texts)
    return [replace(answer, text=text, token_ids=()) for answer, text in zip(said, texts, strict=True)]


def student(settings: Any, inputs: list[Path], out: Path) -> None:
    """The attacker cleans the answers it holds and trains its student on them."""
    from distill import signals
    from distill.models import save

    said = read_answers(inputs[0] / "answers.parquet")
    task, attacker = part("task", settings["task"]), part("attacker", settings["attacker"])
    if settings.get("searched"):
        settings = settings | {"shape": settings["shape"] | json.loads((inputs[-1] / "choice.json").read_text())}
    if settings.get("leaked") and not said:  # a campaign that got nothing has an untrained student
        settings = settings | {"shape": settings["shape"] | {"steps": 0}}
    if (inputs[0] / "signals").is_dir():
        fresh = _fresh(task, settings["shape"], 0)
        said = signals.read(inputs[0] / "signals", tokenizer=fresh.vocabulary).attach(said)
    own = _means(task, settings, **_released(task, settings, inputs[1:])) if "own" in settings else Own()
    for one in settings.get("clean", []):
        said = part("attacker", one).clean(said, own, seed=settings["seed"])
    model, report = _trained(task, settings, attacker, said, own, out)
    save(model, out)
    write_bytes(out / "training.json", canonical(report).encode())


def follow(settings: Any, inputs: list[Path], out: Path) -> None:
    """What the attacker does to the student once it is trained."""
    from distill.models import save

    task, model = part("task", settings["task"]), opened(inputs[0])
    own, recipe = _means(task, settings), _recipe(settings["shape"])
    report = json.loads((inputs[0] / "training.json").read_text())
    for one in settings["follow"]:
        followed = part("attacker", one).follow(model, recipe, own, seed=settings["seed"])
        model = replace(model, network=followed.network.eval())
        report |= {name: report[name] + getattr(followed, name) for name in ("tokens", "positions")}
        report["diverged"] |= followed.diverged
    save(model, out)
    write_bytes(out / "training.json", canonical(report).encode())


def _means(task: Any, settings: Any, **more: Any) -> Own:
    """What an attacker has beside the answers: a function of the task, its seed and the study's `own` alone."""
    held, seed = settings["own"], settings["seed"]
    asked = task.items("query", held["pool"] * held["budget"], seed)
    worked, public = task.items("query", held["worked"], WORKED), task.public(held["budget"], seed)
    final = {item.prompt.text: item.reference for item in [*asked, *worked, *public]}
    shape = settings.get("shape")
    return Own(
        public=_solved(public), worked=_solved(worked), final=task.final, mark=task.mark,
        check=lambda answer: bool(task.grade(answer.text, final[answer.prompt]) == "right"),
        fresh=functools.partial(_fresh, task, shape) if shape else None, recipe=_recipe(shape) if shape else None,
        **more,
    )  # fmt: skip


def _released(task: Any, settings: Any, folders: list[Path]) -> dict[str, Any]:
    """The provider as an attacker can go on asking it, and its defence as the attacker can rebuild it."""
    if "released" not in settings:
        return {}
    released = settings["released"]
    if "teacher" in released["given"]:
        held = dict(zip(released["given"], folders, strict=False))
        given = [name for name in held if name != "teacher"]
        told = {"defense": released["defense"], "given": given}
        return {"teacher": _guarded(task, opened(held["teacher"]), told, [held[name] for name in given])}
    rebuilt = defended([_with_own_key(one) for one in released["defense"]])
    return {"defense": lambda said: rebuilt(_Said(said)).answer((), seed=settings["seed"], profile=Profile("full"))}


@dataclass(frozen=True)
class _Said:
    """Answers that are there already, as a model whose answers can be edited."""

    said: Sequence[Answer]

    def answer(self, prompts: Sequence[Prompt], *, seed: int, profile: Profile) -> list[Answer]:
        return list(self.said)


def _with_own_key(part: Any) -> Any:
    """A defence's settings with the provider's secret replaced by the attacker's guess of one."""
    secret = {"key": "the attacker's own"} if "key" in part["settings"] else {}
    return part | {"settings": part["settings"] | secret}


def _recipe(shape: Any) -> Any:
    from distill.student import StudentSettings

    return StudentSettings(**{name: shape[name] for name in StudentSettings.model_fields})


def _fresh(task: Any, shape: Any, seed: int) -> Any:
    """An untrained model of a shape, with the task's alphabet or a vocabulary learned from its public text."""
    from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
    from distill.models import LanguageModel

    if shape["vocabulary"]:
        tokenizer = byte_pair_tokenizer(task.corpus(), shape["vocabulary"])
    else:
        tokenizer = character_tokenizer(task.alphabet)
    size = {name: shape[name] for name in ("hidden_size", "num_layers", "num_heads", "max_length")}
    return LanguageModel(llama(tokenizer, seed=seed, **size), tokenizer, max_new_tokens=shape["max_new_tokens"])


def _trained(task: Any, settings: Any, attacker: Any, said: list[Answer], own: Own, out: Path) -> tuple[Any, Any]:
    """A fresh model trained by an attacker, and how that went."""
    shape = settings["shape"]
    model, recipe = _fresh(task, shape, settings["seed"]), _recipe(shape)
    # The checkpoint lies beside the unfinished result, and so outlives a killed stage.
    trained = attacker.train(
        said, model, recipe, seed=settings["seed"], own=own, checkpoint=out.with_suffix(".checkpoint")
    )
    losses = [loss if math.isfinite(loss) else None for loss in trained.losses]
    decoding = {"max_new_tokens": shape["max_new_tokens"]}
    report = {"losses": losses, "diverged": trained.diverged, "tokens": trained.tokens, "decoding": decoding}
    report |= {"positions": trained.positions, "parameters": sum(p.numel() for p in trained.network.parameters())}
    report |= {"steps": recipe.steps, "learning_rate": recipe.learning_rate}
    report |= {"asked": trained.asked} if trained.asked else {}
    return replace(model, network=trained.network.eval()), report


def exam(settings: Any, inputs: list[Path], out: Path) -> dict[str, float]:
    """One row an item: what the model said to a report prompt, and right, wrong or unparsed.

    A student's second input is the undefended teacher's exam: `bits_per_byte` is how well the model predicts its text.
    Returns the seconds that answering took.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    task = part("task", settings["task"])
    items = task.items(settings["split"], settings["items"], 0)
    prompts = [item.prompt for item in items]
    model = undefended = opened(inputs[0])
    bits: list[float | None] = [None] * len(items)
    if len(inputs) > 1 and settings["defense"] is None:
        texts = [row["text"] for row in read_grades(inputs[1])]
        nats = model.surprisal(prompts, texts)
        bits = [n / math.log(2) / (len(text.encode()) + 1) for n, text in zip(nats, texts, strict=True)]
    if settings["defense"] is not None:
        model = _guarded(task, model, settings, inputs[1:])
    began = time.perf_counter()
    said = model.answer(prompts, seed=settings["seed"], profile=Profile())
    seconds = time.perf_counter() - began
    rows = [
        {"item": item.prompt.id, "prompt": item.prompt.text, "text": answer.text, "said": task.final(answer.text)}
        | {"outcome": str(task.grade(answer.text, item.reference)), "bits_per_byte": bit, "nats": own}
        | {
            "tokens": len(answer.token_ids) if answer.token_ids or not answer.text else None,
            "finished": answer.finished,
            "passes": answer.passes,
        }
        | {"l1": answer.l1, "kl": answer.kl, "flips": answer.flips}
        for item, answer, bit, own in zip(items, said, bits, _surprisal(undefended, said), strict=True)
    ]
    words, numbers = ("item", "prompt", "text", "said", "outcome"), ("bits_per_byte", "nats", "l1", "kl", "flips")
    schema = pa.schema([*((name, pa.string()) for name in words), *((name, pa.float64()) for name in numbers),
                        ("passes", pa.float64()), ("tokens", pa.int64()), ("finished", pa.bool_())])  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    write_bytes(out / "grades.parquet", sink.getvalue().to_pybytes())
    return {"answer_seconds": seconds}


def _surprisal(model: Any, said: list[Answer]) -> list[float | None]:
    """The undefended model's -log probability of each answer and its end, in nats; a recording has none."""
    if not hasattr(model, "surprisal"):
        return [None] * len(said)
    return list(model.surprisal([Prompt(a.prompt_id, a.prompt) for a in said], [a.text for a in said]))


def search(settings: Any, inputs: list[Path], out: Path) -> None:
    """The recipe of the best trial on the validation split; the first of equals, which is the study's own."""
    right = [sum(row["outcome"] == "right" for row in read_grades(folder)) for folder in inputs]
    write_bytes(out / "choice.json", canonical(settings["recipes"][right.index(max(right))]).encode())


def read_grades(folder: Path) -> list[dict[str, Any]]:
    """The rows of an exam."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(folder / "grades.parquet").to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{folder / 'grades.parquet'}: not a whole file of grades ({error})") from error


def fingerprint(store: Store, stages: list[Stage]) -> str:
    """One digest over the file hashes of all given results: equal runs have equal fingerprints."""
    files = [
        [s.kind, s.key, json.loads((store.folder(s.kind, s.key) / "done.json").read_text())["files"]] for s in stages
    ]
    return digest(canonical(sorted(files)))
