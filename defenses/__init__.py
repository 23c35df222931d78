"""The provider: a defence is a function from model to model (`Defense(settings, given)(model) ->
model`).

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
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from distill.completions import Completion
    from distill.models import LanguageModel, Model

RANKS = {"weights": 0}  # what changes scores is 1, what edits finished answers 2


@dataclass(frozen=True)
class ProviderResources:
    """What a provider has beside its teacher; a defence names in `needs` what it must be handed.

    `proxy`: a small model of the provider's own that stands for students, with the teacher's
    tokenizer. `traces`: the clean teacher's answers to prompts of the provider's own, which nobody
    else asks. `grade`: whether an answer to one of these prompts is right. `rewriter`: a model that
    follows instructions. `learned`: what `learn` returned.
    """

    proxy: LanguageModel | None = None
    traces: Sequence[Completion] = ()
    grade: Callable[[Completion], bool] | None = None
    rewriter: LanguageModel | None = None
    learned: Mapping[str, Tensor] = field(default_factory=dict)


NOTHING = ProviderResources()


class Strength(NamedTuple):
    """A defence's strength: the setting, its value that is no defence, and the ends between which
    strengths are sought.

    Strength rises from `weakest` to `strongest`, whichever of them is the larger number; `log`
    spaces it by ratios.
    """

    name: str
    identity: Any
    weakest: float
    strongest: float
    log: bool = False

    def at(self, share: float) -> float:
        """The strength at a share in [0, 1] of the way from weakest to strongest."""
        if self.log:
            return float(self.weakest * (self.strongest / self.weakest) ** share)
        return self.weakest + share * (self.strongest - self.weakest)


Key = Annotated[str, Field(min_length=1)]
"""The provider's secret: what is drawn with it can be drawn again, by nobody else."""


class Part(BaseModel):
    """What a defence's settings are: frozen, nothing unknown, every field in the
    defence's config.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Base(ABC):
    """What every defence says of itself; a file's `Defense` states what differs from these
    defaults.
    """

    point: ClassVar[str]
    """Where it acts: `none`, `weights`, `decoding` (the distribution that is sampled), `text`
    (which takes token ids and logprobs away with it) or `logprobs` (the text stays as it is). An
    instance may differ, by its settings.
    """
    scores: ClassVar[bool] = False
    """Whether it needs a `LanguageModel`, whose next-token scores it reads or changes."""
    passes: ClassVar[float] = 0.0
    """Extra forward passes of any model per generated token."""
    keeps_argmax: ClassVar[bool] = False
    """Whether the likeliest next token is the same with it as without, whatever the settings."""
    draws: ClassVar[bool] = False
    """Whether it acts through sampling alone, so that it needs a teacher that does not decode
    greedily.
    """
    needs: ClassVar[tuple[str, ...]] = ()
    """What of `Given` it must be handed, by name. An instance may differ, by its settings."""
    learns: ClassVar[bool] = False
    """Whether `learn(model)` must be called first, and its result handed back as `Given.learned`.
    """
    keeps_answer: ClassVar[bool] = False
    """Whether it costs no right answers at any strength, as what is final in an answer, or its law,
    stays as it is.
    """
    identity: ClassVar[dict[str, Any]]
    """The settings with which the defended model answers as the undefended one does, bit for bit.
    """
    knob: ClassVar[Strength | None] = None
    """The one setting that is its strength; None where it has none."""
    paper: ClassVar[str] = "-"
    """Where it comes from."""

    def __init__(self, settings: Any, given: ProviderResources = NOTHING) -> None:
        self.settings = settings
        self.given = given

    @abstractmethod
    def __call__(self, model: Model) -> Model:
        """The defended model."""

    @property
    def off(self) -> bool:
        """Whether the settings are those that make it no defence."""
        return all(getattr(self.settings, name) == value for name, value in self.identity.items())

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """What it learns from the model that it will defend, for those that say they do."""
        return {}


@dataclass(frozen=True)
class DefensePipeline:
    """A list of defences is a defence: weights first, then scores, then finished answers; BadInput
    otherwise.
    """

    names: tuple[str, ...]
    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        acting = [
            (name, part)
            for name, part in zip(self.names, self.parts, strict=True)
            if part.point != "none"
        ]
        ranks = [(name, RANKS.get(part.point, 1 if part.scores else 2)) for name, part in acting]
        for (first, a), (second, b) in pairwise(ranks):
            if a > b:
                raise BadInput(
                    f"defence {' + '.join(self.names)}: {second} cannot act after {first}; the "
                    "order is weights "
                    "(trained/), scores (decoding/), finished answers (release/)"
                )

    def __call__(self, model: Model) -> Model:
        for part in self.parts:
            model = part(model)
        return model

    @property
    def point(self) -> str:
        """Where it shows: in text if any part changes what is said, else in logprobs alone, else
        nowhere.
        """
        points = [part.point for part in self.parts]
        return next((p for p in ("text", "decoding", "weights", "logprobs") if p in points), "none")

    @property
    def passes(self) -> float:
        return float(sum(part.passes for part in self.parts))

    @property
    def keeps_argmax(self) -> bool:
        return all(part.keeps_argmax for part in self.parts)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for part in self.parts for need in part.needs))

    @property
    def learns(self) -> bool:
        return any(part.learns for part in self.parts)


def teach(
    makers: Sequence[Callable[[ProviderResources], Any]], given: ProviderResources, model: Model
) -> list[Mapping[str, Tensor]]:
    """What each defence of a list learns, on the model that those before it have defended."""
    held: list[Mapping[str, Tensor]] = []
    for make in makers:
        defense = make(given)
        held.append(defense.learn(model) if defense.learns else {})
        model = make(replace(given, learned=held[-1]))(model)
    return held


def with_scores(model: Model, name: str) -> LanguageModel:
    """The model, if it still has next-token scores for defence `name` to change; BadInput
    otherwise.
    """
    from distill.models import LanguageModel  # here, so that `import defenses` does not load torch

    if not isinstance(model, LanguageModel):
        raise BadInput(
            f"defense {name}: got a {type(model).__name__}, it changes next-token scores and "
            "needs a LanguageModel; "
            "apply scores first, text last"
        )
    return model


def with_proxy(given: ProviderResources, model: LanguageModel, name: str) -> LanguageModel:
    """The provider's proxy, if there is one and its token ids mean what the teacher's do; BadInput
    otherwise.
    """
    if given.proxy is None:
        raise BadInput(
            f"defense {name}: needs a proxy, a small model that stands for students; the study "
            "names none"
        )
    if given.proxy.vocabulary != model.vocabulary:
        raise BadInput(
            f"defense {name}: the proxy has another tokenizer than the teacher "
            f"({given.proxy.vocabulary[:12]}, not "
            f"{model.vocabulary[:12]}); token scores of one vocabulary mean nothing in another"
        )
    room, wanted = (one.network.config.max_position_embeddings for one in (given.proxy, model))
    if room < wanted:
        raise BadInput(
            f"defense {name}: the proxy's context holds {room} tokens, the teacher's {wanted}; "
            "it must read "
            "all that the teacher says"
        )
    return given.proxy


def with_traces(given: ProviderResources, name: str) -> Sequence[Completion]:
    """The provider's own clean traces; BadInput if there are none."""
    if not given.traces:
        raise BadInput(f"defense {name}: needs clean traces of the provider's own; there are none")
    return given.traces
