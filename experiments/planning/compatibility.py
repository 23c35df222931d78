"""Who can meet whom: tables of rules with what is said where one does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from defenses import BaseDefense
from distill.completions import BadInput
from distill.specs import PretrainedModel
from experiments.planning.opened import open_model
from experiments.settings.attacks import AttackSpec, parse_attack
from experiments.settings.defenses import DefenseSpec, parse_defense
from experiments.settings.models import Network, ProviderModel, Teacher
from experiments.settings.schema import Study

# An attack against a defence: what cannot be made is left out, and a note says why


class Meeting(NamedTuple):
    """An attack on what a defence releases, in a study."""

    study: Study
    defense: DefenseSpec
    attack: AttackSpec

    @property
    def goes_on_asking(self) -> bool:
        """Whether the attack asks what no list of questions holds."""
        return bool({"prefill", "teacher"} & {*self.attack.needs})

    @property
    def begins_answers(self) -> bool:
        """Whether the attack dictates how the teacher begins."""
        return "prefill" in self.attack.needs

    @property
    def is_served(self) -> bool:
        """Whether the teacher answers anew, and none of its scores can be read."""
        able = self.study.teacher.capabilities
        return able.sampling and not able.logits

    @property
    def reads_more(self) -> bool:
        """Whether the defence depends on more than the answers that it edits."""
        traits = self.defense.chain.traits
        return bool(traits.learns or traits.requires_logits or traits.needs)


class Rule(NamedTuple):
    """What makes a meeting impossible."""

    broken: Callable[[Meeting], bool]
    why: str


RULES = (
    Rule(
        lambda m: m.attack.needs_interface != "text" and m.defense.chain.traits.acts_on == "text",
        "it releases no logprobs",
    ),
    Rule(
        lambda m: m.begins_answers and not m.study.provider.prefill,
        "the provider's interface lets nobody begin an answer (provider.prefill)",
    ),
    Rule(
        lambda m: m.goes_on_asking and not m.study.teacher.capabilities.sampling,
        "a recorded teacher answers nothing new",
    ),
    Rule(
        lambda m: "defense" in m.attack.needs and m.reads_more,
        "who sees answers alone cannot rebuild a defence that learns, reads scores or asks a model",
    ),
    Rule(
        lambda m: m.begins_answers and not m.study.teacher.capabilities.prefill,
        "the teacher's server cannot be told how to begin an answer (teacher.scoring)",
    ),
    Rule(
        lambda m: m.attack.needs_interface == "full" and m.is_served,
        "a server releases no more than the likeliest logprobs",
    ),
)


def why_not(study: Study, defense: str, attacker: str) -> str | None:
    """Why an attack cannot be made on what a defence releases, or None.

    Args:
        study: with its teacher and its student.
        defense: by its entry.
        attacker: by its entry.
    """
    meeting = Meeting(study, parse_defense(defense), parse_attack(attacker))
    return next((rule.why for rule in RULES if rule.broken(meeting)), None)


def has_effect(defense: str, attacker: str) -> bool:
    """Whether an attacker sees any of what a defence changes.

    Args:
        defense: by its entry.
        attacker: by its entry.
    """
    unseen = parse_attack(attacker).needs_interface == "text"
    return not (unseen and parse_defense(defense).chain.traits.acts_on == "logprobs")


# A defence on a teacher and its task


@dataclass(frozen=True)
class Part:
    """A part of a defence in its place: `temperature` is the teacher's, or what the parts before
    it and it have made of it.
    """

    name: str
    defense: BaseDefense
    teacher: Teacher
    temperature: float


def parts(teacher: Teacher, entry: str) -> Iterator[Part]:
    """The parts of a defence in the order in which they act.

    Args:
        teacher: of the study.
        entry: of a defence.
    """
    chain, temperature = parse_defense(entry).chain, teacher.temperature
    for name, defense in zip(chain.names, chain.parts, strict=True):
        if defense.temperature is not None:
            temperature = defense.temperature
        yield Part(name, defense, teacher, temperature)


def check_defense(teacher: Teacher, entry: str) -> None:
    """A defence must be able to do something to the answers of this teacher.

    Args:
        teacher: of the study.
        entry: of a defence.

    Raises:
        BadInput: it is not.
    """
    for part in parts(teacher, entry):
        if part.defense.traits.requires_logits and not teacher.capabilities.logits:
            raise BadInput(
                f"{part.name}: needs the teacher's scores; teacher {teacher.name!r} is "
                f"{teacher.kind} and can only be edited"
            )
    for part in parts(teacher, entry):
        if (
            part.defense.traits.requires_sampling
            and not part.temperature
            and not part.defense.is_identity
        ):
            raise BadInput(
                f"{part.name}: acts through sampling; teacher {teacher.name!r} decodes greedily, "
                f"so write 'decoding/temperature + {part.name}'"
            )


# An attack in a study


def check_attacker(study: Study, attacker: str) -> None:
    """A study must have what an attack needs whatever it is made on.

    Args:
        study: with its teacher, its student and what the attacker owns.
        attacker: by its entry.

    Raises:
        BadInput: it lacks something.
    """
    attack = parse_attack(attacker)
    if attack.needs_interface != "text" and not study.teacher.capabilities.logprobs:
        raise BadInput(
            f"{attacker}: reads released logprobs, which mean nothing without the tokenizer that "
            f"they are of; teacher {study.teacher.name!r} is {study.teacher.kind} and has none "
            "(of a served one: teacher.logprobs and teacher.tokenizer)"
        )
    student, aligns = study.student, "tokenizer" in attack.needs
    tiny = isinstance(student, Network) and student.vocabulary
    if attack.needs_interface != "text" and tiny and not aligns:
        raise BadInput(
            f"{attacker}: needs a student with the teacher's tokenizer; student.vocabulary must be "
            "0 (aligned_kd takes any)"
        )
    if aligns and attack.specs("repair"):
        raise BadInput(
            f"{attacker}: a repair reads logprobs in the student's tokens, which these are not"
        )
    if attack.instruction and isinstance(study.teacher, Network):
        raise BadInput(
            f"{attacker}: tells the teacher in words what to do; teacher {study.teacher.name!r} is "
            "trained here on a task's solutions alone and follows no instruction (judged takes "
            "by=likelihood for it)"
        )
    if "worked" in attack.needs and not study.own.worked:
        raise BadInput(
            f"{attacker}: needs worked solutions; own.worked must be above 0 (see configs/own)"
        )


# A proxy beside a teacher


def check_tokenizer(
    teacher: Teacher, proxy: ProviderModel, defense: str, opens: bool = True
) -> None:
    """A proxy must spell as the teacher does, before anything runs; with_proxy compares the files
    themselves.

    Args:
        teacher: of the study.
        proxy: of the provider.
        defense: who needs the proxy.
        opens: whether models may be opened; else their files are not compared.

    Raises:
        BadInput: it does not.
    """
    if not spell_alike(teacher, proxy, opens):
        raise BadInput(
            f"{defense}: the proxy {proxy.name!r} has another tokenizer than the teacher "
            f"{teacher.name!r}; scores of one vocabulary mean nothing in another (a pretrained "
            "teacher needs a pretrained proxy with its tokenizer)"
        )


def spell_alike(
    model: Teacher | ProviderModel, other: Network | PretrainedModel, opens: bool
) -> bool:
    """Whether two models have one tokenizer, so that a token id means the same in both; where
    models may not be opened, two from elsewhere may have.

    Args:
        model: of the study.
        other: another one of it.
        opens: whether models may be opened.
    """
    if isinstance(model, Network) and isinstance(other, Network):
        return model.vocabulary == other.vocabulary
    if not (isinstance(model, PretrainedModel) and isinstance(other, PretrainedModel)):
        return False
    if not opens:
        return True
    ours, theirs = open_model(model.name, model), open_model("model", other)
    return ours.vocabulary == theirs.vocabulary
