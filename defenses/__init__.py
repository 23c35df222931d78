"""The provider: a defence is a function from model to model.

`Defense(settings, resources)(model) -> model`.

A defence is one file that holds `Settings` (every field shown in `configs/defense/<same
path>.yaml`) and `Defense`, whose call returns a defended model and leaves the one it was given as
it was. Its maths are pure functions above it.

A defended model keeps the order of the prompts, says the same for the same seed, and lets no prompt
change the answer to another; `tests/defenses/test_contract.py` finds every config and holds its
defence to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from distill.answer_format import AnswerFormat
from distill.completions import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from distill.completions import Completion
    from distill.models import LanguageModel, Model

ActsOn = Literal["none", "weights", "decoding", "text", "logprobs"]
"""Where a defence shows: nowhere, in the weights, in the distribution that is sampled (`decoding`),
in the finished text (which takes token ids and logprobs away with it), or in released logprobs
alone (the text stays as it is).
"""


@dataclass(frozen=True)
class ProviderResources:
    """What a provider has beside its teacher; a defence names in `Traits.needs` what it must get.

    `proxy`: a small model of the provider's own that stands for students, with the teacher's
    tokenizer. `traces`: the clean teacher's answers to prompts of the provider's own, which nobody
    else asks. `grade`: whether an answer to one of these prompts is right. `rewriter`: a model that
    follows instructions. `weaker_teacher`: the study's public, weaker teacher. `base`: the model
    that the teacher was before its adapter, or before its training here. `learned`: what the
    defence's `learn` returned. `format`: where reasoning and final answer are in a task's answers.
    `tools`: the functions that requests define, where answers call any.
    """

    proxy: LanguageModel | None = None
    traces: Sequence[Completion] = ()
    grade: Callable[[Completion], bool] | None = None
    rewriter: LanguageModel | None = None
    weaker_teacher: Model | None = None
    base: Model | None = None
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    format: AnswerFormat = AnswerFormat()
    tools: Sequence[str] = ()


NO_RESOURCES = ProviderResources()
GIVEN = ("learned", "format", "tools")  # to every defence
RESOURCES = tuple(each.name for each in fields(ProviderResources) if each.name not in GIVEN)


class Strength(NamedTuple):
    """The one setting that is a defence's strength: its name, its value that is no defence, and the
    ends between which strengths are sought.

    Strength rises from `weakest` to `strongest`, whichever of them is the larger number; `log`
    spaces it by ratios.
    """

    name: str
    identity: Any
    weakest: float
    strongest: float
    log: bool = False

    def interpolate(self, fraction: float) -> float:
        """The strength at a fraction of the way from weakest to strongest.

        Args:
            fraction: 0 to 1.
        """
        if self.log:
            return float(self.weakest * (self.strongest / self.weakest) ** fraction)
        return self.weakest + fraction * (self.strongest - self.weakest)


@dataclass(frozen=True)
class Traits:
    """What a defence says of itself, as data.

    A class states the traits of its default settings; an instance whose settings change them
    replaces its own (`self.traits = replace(self.traits, ...)`).

    Raises:
        BadInput: `acts_on` or `needs` names something that does not exist.
    """

    acts_on: ActsOn
    identity: Mapping[str, Any]
    """The settings with which the defended model answers as the undefended one does, bit for bit.
    """
    strength: Strength | None = None
    """The one setting that is its strength; None where it has none."""
    requires_logits: bool = False
    """Whether it needs a `LanguageModel`, whose next-token scores it reads or changes."""
    requires_sampling: bool = False
    """Whether it acts through sampling alone, so that it does nothing to a greedy teacher."""
    extra_forward_passes: float = 0.0
    """Forward passes of any model per generated token, beside the teacher's own; NaN where that
    differs from answer to answer.
    """
    keeps_argmax: bool = False
    """Whether the likeliest next token is the same with it as without, whatever the settings."""
    keeps_answer: bool = False
    """Whether it costs no right answers at any strength, as what is final in an answer, or its law,
    stays as it is.
    """
    needs: tuple[str, ...] = ()
    """The fields of `ProviderResources` that it must be handed."""
    learns: bool = False
    """Whether `learn(model)` comes first, and its result is handed back as `learned`."""
    paper: str = "-"
    """Where it comes from."""

    def __post_init__(self) -> None:
        if self.acts_on not in get_args(ActsOn):
            raise BadInput(
                f"Traits: acts_on is {self.acts_on!r} (there are: {', '.join(get_args(ActsOn))})"
            )
        if unknown := sorted({*self.needs} - {*RESOURCES}):
            raise BadInput(
                f"Traits: needs names {', '.join(unknown)} (there are: {', '.join(RESOURCES)})"
            )


SecretKey = Annotated[str, Field(min_length=1)]
"""The provider's secret: what is drawn with it can be drawn again, by nobody else."""


class DefenseSettings(BaseModel):
    """What a defence's settings are: frozen, nothing unknown, every field in the
    defence's config.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BaseDefense(ABC):
    """What every file's `Defense` extends: it states its `traits`, and returns a defended model.

    Args:
        settings: the file's own `Settings`.
        resources: what the provider has; holds at least what `traits.needs` names.
    """

    traits: Traits
    settings: DefenseSettings
    resamples: bool = False
    """Whether it changes how the model samples, which `l1`, `kl` and `flips` do not see."""

    def __init__(self, settings: Any, resources: ProviderResources = NO_RESOURCES) -> None:
        self.settings = settings
        self.resources = resources

    @abstractmethod
    def __call__(self, model: Model) -> Model:
        """The defended model; the one it is given stays as it is.

        Args:
            model: the teacher, or what an earlier defence made of it.

        Raises:
            BadInput: the model cannot be defended so, or the provider lacks what is needed.
        """

    @property
    def temperature(self) -> float | None:
        """At which the model samples behind it; None as before it."""
        return None

    @property
    def is_identity(self) -> bool:
        """Whether the settings are those that make it no defence."""
        return all(
            getattr(self.settings, name) == value for name, value in self.traits.identity.items()
        )

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """What it learns from the model that it will defend, if `traits.learns`.

        Args:
            model: the undefended teacher; it stays as it is.

        Returns:
            Tensors `[...]` by name, which `resources.learned` is handed later; nothing where it
            learns nothing.

        Raises:
            BadInput: the model cannot be learned from, or the provider lacks what is needed.
        """
        return {}


DefenseFactory = Callable[[ProviderResources], BaseDefense]
"""A defence's class with its settings: what is left is what the provider has."""


@dataclass(frozen=True)
class DefensePipeline:
    """A list of defences is a defence: weights first, then scores, then finished answers.

    Args:
        names: of the parts, for messages.
        parts: defences in the order in which they are applied.

    Raises:
        BadInput: a part acts on what an earlier one has already made final.
    """

    names: tuple[str, ...]
    parts: tuple[BaseDefense, ...]

    def __post_init__(self) -> None:
        ranks = [
            (name, _rank(part.traits))
            for name, part in zip(self.names, self.parts, strict=True)
            if part.traits.acts_on != "none"
        ]
        for (first, rank), (second, next_rank) in pairwise(ranks):
            if rank > next_rank:
                raise BadInput(
                    f"defence {' + '.join(self.names)}: {second} cannot act after {first}; the "
                    "order is weights (trained/), scores (decoding/), finished answers (release/)"
                )

    def __call__(self, model: Model) -> Model:
        """The model behind all parts; the one it is given stays as it is.

        Args:
            model: the teacher.

        Raises:
            BadInput: a part cannot defend it.
        """
        for part in self.parts:
            model = part(model)
        return model

    @cached_property
    def traits(self) -> Traits:
        """Those of the whole: it acts on text if any part changes what is said, else on logprobs
        alone, else on nothing; passes add up; it needs what any part needs, and keeps what all do.
        """
        parts = [part.traits for part in self.parts]
        places = {each.acts_on for each in parts}
        in_order: tuple[ActsOn, ...] = ("text", "decoding", "weights", "logprobs")
        return Traits(
            acts_on=next((place for place in in_order if place in places), "none"),
            identity={},
            requires_logits=any(each.requires_logits for each in parts),
            requires_sampling=any(each.requires_sampling for each in parts),
            extra_forward_passes=float(sum(each.extra_forward_passes for each in parts)),
            keeps_argmax=all(each.keeps_argmax for each in parts),
            keeps_answer=all(each.keeps_answer for each in parts),
            needs=tuple(dict.fromkeys(need for each in parts for need in each.needs)),
            learns=any(each.learns for each in parts),
        )


def _rank(traits: Traits) -> int:
    """Its place in a pipeline: weights 0, what reads or changes scores 1, finished answers 2."""
    if traits.acts_on == "weights":
        return 0
    return 1 if traits.requires_logits else 2


def learn_pipeline(
    factories: Sequence[DefenseFactory], resources: ProviderResources, model: Model
) -> list[Mapping[str, Tensor]]:
    """What each defence of a list learns, on the model that those before it have defended.

    Args:
        factories: what makes each defence, in the order in which they are applied.
        resources: what the provider has.
        model: the clean teacher.

    Returns:
        For each defence, tensors `[...]` by name; nothing for one that does not learn.
    """
    learned: list[Mapping[str, Tensor]] = []
    for make in factories:
        defense = make(resources)
        learned.append(defense.learn(model) if defense.traits.learns else {})
        model = make(replace(resources, learned=learned[-1]))(model)
    return learned


def require_language_model(model: Model, name: str) -> LanguageModel:
    """The model, if it still has next-token scores to change.

    Args:
        model: what a defence was called with.
        name: of the defence, for the message.

    Raises:
        BadInput: the model's answers are finished, or it has no scores.
    """
    from distill.models import is_network  # here, so that `import defenses` does not load torch

    if not is_network(model):
        raise BadInput(
            f"defense {name}: got a {type(model).__name__}, it changes next-token scores and "
            "needs a LanguageModel; apply scores first, text last"
        )
    return model


def require_proxy(resources: ProviderResources, model: LanguageModel, name: str) -> LanguageModel:
    """The provider's proxy: its token ids mean what the teacher's do, and it reads as much.

    Args:
        resources: what the provider has.
        model: the teacher that is defended.
        name: of the defence, for the message.

    Raises:
        BadInput: there is no proxy, or it has another tokenizer or a shorter context.
    """
    if resources.proxy is None:
        raise BadInput(
            f"defense {name}: needs a proxy, a small model that stands for students; the study "
            "names none"
        )
    if resources.proxy.vocabulary != model.vocabulary:
        raise BadInput(
            f"defense {name}: the proxy has another tokenizer than the teacher "
            f"({resources.proxy.vocabulary[:12]}, not {model.vocabulary[:12]}); token scores of "
            "one vocabulary mean nothing in another"
        )
    room = resources.proxy.context
    wanted = model.context
    if room < wanted:
        raise BadInput(
            f"defense {name}: the proxy's context holds {room:g} tokens, the teacher's {wanted:g}; "
            "it must read all that the teacher says"
        )
    return resources.proxy


def require_traces(resources: ProviderResources, name: str) -> Sequence[Completion]:
    """The provider's own clean traces.

    Args:
        resources: what the provider has.
        name: of the defence, for the message.

    Raises:
        BadInput: there are none.
    """
    if not resources.traces:
        raise BadInput(f"defense {name}: needs clean traces of the provider's own; there are none")
    return resources.traces
