"""What a study asks its teachers: every prompt with what must be released to it, so that a
recording is held to it before anything runs, and one can be made of it.
"""

from __future__ import annotations

from typing import NamedTuple

from distill.completions import BadInput, Interface, Prompt
from distill.recordings import Layout, RecordedModel, read_recorded
from experiments.planning.arms import asking, defenses, has_choice
from experiments.planning.graph import interface_of, pool
from experiments.planning.opened import student_vocabulary
from experiments.private import revealed, shown
from experiments.seeds import seed_for
from experiments.settings.attacks import parse_attack
from experiments.settings.catalog import cached
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.settings.models import Recorded
from experiments.settings.schema import Block, Study
from experiments.stages.resources import Owned, attacker_resources

TEXT = Interface()


class Size(NamedTuple):
    """The most questions that an attacker of a block chooses from, and that one has answered."""

    queries: int
    budget: int


def size_of(block: Block) -> Size:
    """The most that a block asks: questions that are drawn, and those of them that are sent.

    Args:
        block: of a study.
    """
    budget = max(block.budgets)
    return Size(max(map(pool, asking(block)), default=1) * budget, budget)


def asked_prompts(study: Study, task: str, block: Block) -> dict[Interface, list[Prompt]]:
    """Every prompt that a block's arms ask a teacher about a task, by what is released to it.

    Args:
        study: with its exams and seeds.
        task: by its entry.
        block: of the study.

    Returns:
        Each prompt once, in the order in which they are first asked.
    """
    exam, defended = build_task(task), [parse_defense(entry) for entry in block.defenses]
    items = exam.items("report", study.measure.items, 0)
    selects = any(has_choice(study, task, name, block.budgets) for name in defenses(block))
    if selects or any(defense.match for defense in defended):
        items += exam.items("select", study.measure.selection_items, 0)
    if any("traces" in defense.chain.traits.needs for defense in defended):
        items += exam.train_items(2 * study.provider.traces, seed_for("provider"))
    sent_to = {TEXT: [item.prompt for item in items]}
    for seed in query_seeds(study, task):
        prompts = [item.prompt for item in exam.items("query", size_of(block).queries, seed)]
        sent_to[TEXT] += prompts
        for attacker in asking(block):
            interface = interface_of(parse_attack(attacker).needs_interface)
            sent = _sent(study, task, attacker, prompts, seed)
            if sent is not prompts or interface != TEXT:
                sent_to.setdefault(interface, []).extend(sent)
    return {interface: list(dict.fromkeys(prompts)) for interface, prompts in sent_to.items()}


def query_seeds(study: Study, task: str) -> list[int]:
    """The seeds that draw questions: of students, floors, selection and the identity control.

    Args:
        study: with its seeds.
        task: by its entry.
    """
    fresh = [seed_for("control", seed) for seed in study.seeds]
    return [*study.baseline(task), *study.selection_seeds, *fresh]


def _sent(study: Study, task: str, attacker: str, prompts: list[Prompt], seed: int) -> list[Prompt]:
    """What an attack makes of its questions; one that chooses among them may send any."""
    for part in parse_attack(attacker).askers:
        if part.pool > 1 or {"pilot", "prefill"} & {*part.needs}:
            continue  # the first is sure to send none but these; the second cannot be recorded
        owned = Owned(budget=len(prompts), pool=1, worked=study.own.worked)
        resources = attacker_resources(build_task(task), owned, seed)
        prompts = part.ask(prompts, len(prompts), resources, seed=seed)
    return prompts


def check_recording(
    study: Study, task: str, setting: str, teacher: Recorded, block: Block
) -> RecordedModel:
    """The recording of a teacher, opened.

    Args:
        study: which will ask it.
        task: by its entry.
        setting: `teacher` or `weaker_teacher`, of which text alone is asked.
        teacher: that is recorded.
        block: of the study.

    Raises:
        BadInput: a prompt that the study will ask is not in it, or not so often, or without the
            logprobs that an attacker needs; or these are of another tokenizer than the student's.
    """
    recording = open_recording(teacher)
    there, most = len(recording.answers), max(study.measure.items, size_of(block).queries)
    if most > there:  # seen before so many are drawn
        raise BadInput(
            f"{recording.where}: no answer to at least {most - there} prompts: it has {there} "
            f"answers, and {most} questions are asked at once"
        )
    for interface, prompts in asked_prompts(study, task, block).items():
        if setting == "teacher" or interface == TEXT:
            recording.generate(prompts, seed=0, interface=interface)
        if setting == "teacher" and interface != TEXT:
            _check_tokenizer(study, task, recording)
    return recording


def open_recording(teacher: Recorded) -> RecordedModel:
    """The recording that a study names.

    Args:
        teacher: with its file and layout.

    Raises:
        BadInput: the file is missing, damaged, or of another layout.
    """
    layout = revealed(teacher.model_dump(include={*Layout.model_fields}))
    return _opened(shown(teacher.path), Layout(**layout).model_dump_json())


@cached
def _opened(path: str, layout: str) -> RecordedModel:
    return read_recorded(path, Layout.model_validate_json(layout))


def _check_tokenizer(study: Study, task: str, recording: RecordedModel) -> None:
    """Recorded logprobs are over the teacher's tokens, so the student must have its tokenizer."""
    if recording.vocabulary is None:
        raise BadInput(
            f"{recording.where}: does not say of which tokenizer its logprobs are, so no student "
            "can learn from them; set teacher.tokenizer to a folder or a name on the hub"
        )
    if recording.vocabulary != student_vocabulary(study, build_task(task)):
        raise BadInput(
            f"{recording.where}: its logprobs are over the tokenizer {recording.vocabulary[:12]}, "
            "and the student's is another; logprobs of one vocabulary mean nothing in another"
        )


def about(setting: str, recording: RecordedModel) -> str:
    """What a recording was found to be, in a line.

    Args:
        setting: `teacher` or `weaker_teacher`.
        recording: opened.
    """
    some = [*recording.answers.values()]
    answers = [answer for attempts in some for answer in attempts]
    unfinished = sum(not answer.finished for answer in answers)
    most = max(map(len, some))
    widths = {answer.logprobs.ids_TK.shape[1] for answer in answers if answer.logprobs is not None}
    facts = [
        f"{len(answers)} answers to {len(some)} prompts",
        f"at most {most} a prompt" * (most > 1),
        f"{unfinished} unfinished" * bool(unfinished),
        f"{recording.failed} failed requests left out" * bool(recording.failed),
        f"{min(widths, default=0)} logprobs a token" * bool(widths),
    ]
    return f"{setting}: read as {recording.format}: {', '.join(filter(None, facts))}"
