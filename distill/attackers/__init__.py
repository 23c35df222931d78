"""The attacker: an attack is a list of parts, each one file that holds `Settings` and `Attacker`,
in this order.

    ask/      which prompts are sent: `ask(prompts, budget, resources, seed=...)`
    clean/    which completions are learned from: `clean(completions, resources, seed=...)`
    repair/   the same for released logprobs: `clean(completions, resources, seed=...)`
    <name>    how the student learns, exactly one: `train(completions, model, recipe, seed=...,
              resources=..., checkpoint=...)` returns a `Trained`
    follow/   what is done to the trained student: `follow(model, recipe, resources, seed=...)`
              returns a `Trained`

What a part sees of the provider is `completions`; what else an attacker has is
`AttackerResources`, and a part names in `needs` what of it it must be handed. Nothing here ever
holds a report question, a clean completion or another arm's data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from distill.answer_format import AnswerFormat

if TYPE_CHECKING:
    from distill.completions import Completion
    from distill.models import LanguageModel, Model
    from distill.specs import TrainingConfig

ORDER = ("ask", "clean", "repair", "learn", "follow")


@dataclass(frozen=True)
class AttackerResources:
    """What an attacker has beside the answers it was sold.

    `public`: questions of its own with their final answers, as answers whose text is the final
    answer alone. `worked`: worked solutions of its own, few. `final(answer)`: its final answer, or
    None, as of one that was cut off before it. `check(answer)`: whether the final answer to one of
    its own or asked questions is right, where the task lets anybody check. `format`: where
    reasoning and final answer are in a text. `fresh(seed)`: an untrained model of the student's
    shape. `recipe`: how it trains one.
    `defense(answers)`: the defence rebuilt by the attacker, with a key of its own, applied to
    answers with logprobs.
    `teacher`: the released model, for attacks that go on asking while they learn. `pilot`: a
    student of the first answers, for attacks that choose what to ask next. `tokenizer`: the
    teacher's, which is public, for students of another.
    """

    public: Sequence[Completion] = ()
    worked: Sequence[Completion] = ()
    final: Callable[[Completion], str | None] = lambda answer: None
    check: Callable[[Completion], bool] | None = None
    format: AnswerFormat = AnswerFormat()
    fresh: Callable[[int], LanguageModel] | None = None
    recipe: TrainingConfig | None = None
    defense: Callable[[Sequence[Completion]], list[Completion]] | None = None
    teacher: Model | None = None
    pilot: LanguageModel | None = None
    tokenizer: Any = None


NOTHING = AttackerResources()


class Part(BaseModel):
    """What a part's settings are: frozen, nothing unknown, every field in its config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Base:
    """What every part says of itself; a file's `Attacker` states what differs from
    these defaults.
    """

    adaptive: ClassVar[bool] = True
    """Whether it reacts to a defence; a passive student does not."""
    needs_interface: ClassVar[str] = "text"
    """What the interface must release: `text`, `top_k` or `full`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What of `AttackerResources` it must be handed, by name, or `prefill`: that the beginning of a
    completion can be dictated. An instance may differ, by its settings.
    """
    asks: ClassVar[bool] = True
    """Whether it asks the provider anything."""
    paper: ClassVar[str] = "-"
    """Where it comes from."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
