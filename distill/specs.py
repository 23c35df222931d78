"""What a model is and how one is trained, as settings: two things, so that any model can be trained
by any recipe.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Frozen settings in which nothing is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TinyModel(Spec):
    """The shape of a small Llama from scratch; `max_length` is its context."""

    hidden_size: int = Field(default=64, ge=8, le=100_000)
    intermediate_size: int = Field(default=256, description="width of the MLPs", ge=8, le=1_000_000)
    num_layers: int = Field(default=2, ge=1, le=1000)
    num_heads: int = Field(default=4, ge=1, le=1000)
    max_length: int = Field(default=192, ge=16, le=1_000_000)


class TrainingConfig(Spec):
    """A recipe; `max_length` counts prompt, answer and end-of-text.

    `optimizer` muon is for the matrices between the embedding and the head, at
    `trainer.MATRICES` times the learning rate; all else is AdamW's.
    """

    max_length: int = Field(default=192, ge=16, le=1_000_000)
    steps: int = Field(default=300, ge=0, le=10_000_000)
    batch_size: int = Field(default=32, ge=1, le=100_000)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=4e-3, gt=0, le=1000)
    warmup: float = Field(default=0.05, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, le=1000)
