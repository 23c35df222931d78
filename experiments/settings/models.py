"""What models a study names: trained here, trained further here, from elsewhere, or recorded. The
same settings say it for a teacher, a weaker teacher, a proxy, a rewriter and a student.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import Discriminator, Field, Tag, model_validator

from distill.completions import NETWORK, RECORDING, Capabilities
from distill.recordings.layout import Layout
from distill.specs import LoraConfig, PretrainedModel, TinyModel, TrainingConfig, Where
from experiments.settings.entries import UNSAID, Strict, Text
from experiments.settings.served import Served

MOST = 10_000_000  # questions


class Network(TinyModel, TrainingConfig):
    """A small Llama and how it is trained; a teacher by recipe and a student differ in numbers
    alone.
    """

    name: Text
    vocabulary: int = Field(
        description="0: one token a character; else byte-pair tokens learned from public text",
        ge=0,
        le=1_000_000,
    )
    max_new_tokens: int = Field(description="where its answers are cut off", ge=1, le=1_000_000)

    @property
    def capabilities(self) -> Capabilities:
        return NETWORK

    @model_validator(mode="after")
    def _possible(self) -> Network:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 2 x num_heads, got {self.hidden_size}"
            )
        if self.max_new_tokens >= self.max_length:
            raise ValueError(f"max_new_tokens must be below max_length, got {self.max_new_tokens}")
        return self


class FineTuned(PretrainedModel, TrainingConfig):
    """A pretrained model that is trained further here: all of its weights, or a LoRA adapter."""

    name: Text
    max_new_tokens: int = Field(description="where its answers are cut off", ge=1, le=1_000_000)
    answer_batch_size: int = Field(32, description="questions answered at once", ge=1, le=100_000)
    lora: LoraConfig | None = Field(None, description="train an adapter; null: all weights")

    @property
    def capabilities(self) -> Capabilities:
        return NETWORK

    @model_validator(mode="after")
    def _possible(self) -> FineTuned:
        if self.lora is None and self.dtype != "float32":
            raise ValueError(
                f"dtype must be float32 where all weights are trained, got {self.dtype}: steps are "
                "lost to its rounding; precision=bfloat16 computes in it and keeps a float32 copy"
            )
        if self.lora is not None and self.precision == "bfloat16" != self.dtype:
            raise ValueError(
                "precision must be auto or float32 beside an adapter; dtype=bfloat16 keeps the "
                "frozen weights in bfloat16 and the adapter in float32"
            )
        return self


class Recipe(Network):
    """A teacher that is trained here, on worked solutions of the task's own training split."""

    kind: Literal["recipe"]
    temperature: ClassVar[float] = 0.0  # it decodes greedily
    items: int = Field(
        description="distinct training questions, or all where a task has fewer", ge=1, le=MOST
    )


class FineTunedTeacher(FineTuned):
    """A teacher that is trained further here, on worked solutions of the task's own training
    split.
    """

    kind: Literal["finetuned"]
    temperature: ClassVar[float] = 0.0  # it decodes greedily
    items: int = Field(
        description="distinct training questions, or all where a task has fewer", ge=1, le=MOST
    )


class Pretrained(PretrainedModel):
    """A teacher from a local folder, a GGUF file or a hub name, through transformers."""

    kind: Literal["pretrained"]
    name: Text
    temperature: float = Field(ge=0, le=100)
    top_p: float = Field(gt=0, le=1)
    max_new_tokens: int = Field(ge=1, le=1_000_000)
    batch_size: int = Field(ge=1, le=100_000)

    @property
    def capabilities(self) -> Capabilities:
        return NETWORK


def base_of(teacher: Any) -> Pretrained | None:
    """The model that a teacher was before its adapter, or before its training here; None of
    others.

    Args:
        teacher: of a study.
    """
    name = f"base of {teacher.name}"
    if isinstance(teacher, FineTunedTeacher):
        before = {field: getattr(teacher, field) for field in PretrainedModel.model_fields}
        greedy = {"temperature": 0.0, "top_p": 1.0}
        sizes = {
            "max_new_tokens": teacher.max_new_tokens,
            "batch_size": teacher.answer_batch_size,
        }
        return Pretrained.model_validate(
            {"kind": "pretrained", "name": name} | before | greedy | sizes
        )
    if isinstance(teacher, Pretrained) and teacher.adapter:
        return teacher.model_copy(update={"name": name, "adapter": None})
    return None


class Recorded(Strict, Layout):
    """A teacher that is no longer there: its answers in a file, by prompt, and how that is
    written.
    """

    kind: Literal["recorded"]
    name: Text
    path: Where = Field(description="file, folder that datasets saved, or name on the hub")
    temperature: ClassVar[float] = 0.0

    @property
    def capabilities(self) -> Capabilities:
        return replace(RECORDING, logprobs=True)  # planning looks for them in the recording


def is_recording(model: Teacher | None) -> TypeGuard[Recorded]:
    """Whether a teacher only repeats what was recorded.

    Args:
        model: of a study, if it has one.
    """
    return model is not None and not model.capabilities.sampling


class Proxy(Network):
    """A small model of the provider's own, trained on clean traces, that stands for students."""

    kind: Literal["recipe"]


class FineTunedProxy(FineTuned):
    """A pretrained model that learns from clean traces, and stands for students."""

    kind: Literal["finetuned"]


class FineTunedStudent(FineTuned):
    """A pretrained model as the student; untrained, it is the model as it comes."""

    kind: Literal["pretrained"]


def _kind(value: Any) -> str:
    """Which student it is; one without a kind is a small Llama, as students were before."""
    if isinstance(value, dict):
        return str(value.get("kind", UNSAID))
    return UNSAID if isinstance(value, Network) else "pretrained"


Teacher = Annotated[
    Recipe | FineTunedTeacher | Pretrained | Recorded | Served, Field(discriminator="kind")
]
ProviderModel = Annotated[Proxy | FineTunedProxy | Pretrained, Field(discriminator="kind")]
StudentModel = Annotated[
    Annotated[Network, Tag(UNSAID)] | Annotated[FineTunedStudent, Tag("pretrained")],
    Discriminator(_kind),
]
