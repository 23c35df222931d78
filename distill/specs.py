"""What a model is and how one is trained, as settings: two things, so that any model can be trained
by any recipe.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

Where = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Spec(BaseModel):
    """Frozen settings in which nothing is unknown.

    `LATER` names fields that came when results had addresses already: they are written only where
    they differ from their default, so that old addresses stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    LATER: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if name not in self.LATER or getattr(self, name) != fields[name].default
        }


class TinyModel(Spec):
    """The shape of a small Llama from scratch; `max_length` is its context."""

    hidden_size: int = Field(default=64, ge=8, le=100_000)
    intermediate_size: int = Field(default=256, description="width of the MLPs", ge=8, le=1_000_000)
    num_layers: int = Field(default=2, ge=1, le=1000)
    num_heads: int = Field(default=4, ge=1, le=1000)
    max_length: int = Field(default=192, ge=16, le=1_000_000)


class ChatConfig(Spec):
    """What a chat template is told beside the conversation."""

    system: str = Field(
        default="", description="system prompt of prompts that have none", max_length=20_000
    )
    enable_thinking: bool | None = Field(default=None, description="null: as the template has it")
    date: datetime.date = Field(
        default=datetime.date(2024, 7, 26),
        description="what templates that write today's date write",
    )


class PretrainedModel(Spec):
    """A model that somebody else trained, and where and in which numbers it computes.

    In float32 an answer does not depend on the other prompts of its batch; in others it may.
    """

    path: Where = Field(description="local folder, .gguf file, or name on the hub")
    revision: str = Field(
        default="", description="of a name on the hub: branch, tag or commit", max_length=200
    )
    adapter: Where | None = Field(
        default=None, description="folder of a LoRA adapter of it, from peft"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field(
        default="auto",
        description="auto: a GPU where there is one",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
    )
    allow_pickle: bool = Field(
        default=False, description="weights in PyTorch's own files too, which can be harmful"
    )
    chat: ChatConfig = ChatConfig()


class LoraConfig(Spec):
    """A low-rank adapter that is trained in place of the weights (Hu et al. 2021, by peft)."""

    r: int = Field(default=16, description="rank", ge=1, le=10_000)
    alpha: float = Field(
        default=32.0, description="the adapter counts alpha / r times", gt=0, le=1e6
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = Field(
        default="all-linear",
        description="names of modules, with commas between; all-linear: all but the head",
        pattern=r"^[\w.-]+(,[\w.-]+)*$",
        max_length=1000,
    )
    merge: bool = Field(
        default=False, description="keep whole weights, with the adapter merged into them"
    )


class TrainingConfig(Spec):
    """A recipe; `max_length` counts prompt, answer and end-of-text.

    `optimizer` muon is for the matrices between the embedding and the head, at
    `trainer.MATRICES` times the learning rate; all else is AdamW's. `precision` is of the passes:
    bfloat16 keeps a float32 copy of the weights for the optimiser; auto is float32 on a CPU, and
    autocast to bfloat16 on a GPU.
    """

    LATER = frozenset({"pass_tokens", "checkpointing", "precision"})
    max_length: int = Field(default=192, ge=16, le=1_000_000)
    steps: int = Field(default=300, ge=0, le=10_000_000)
    batch_size: int = Field(default=32, ge=1, le=100_000)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=4e-3, gt=0, le=1000)
    warmup: float = Field(default=0.05, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, le=1000)
    pass_tokens: int = Field(
        default=0,
        description="tokens, with padding, that go through the network at once; the gradients of "
        "a larger batch are added up; 0: any number",
        ge=0,
        le=10_000_000,
    )
    checkpointing: bool = Field(
        default=False,
        description="compute states again in the backward pass: less memory, more time",
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
