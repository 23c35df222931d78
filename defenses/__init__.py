"""The provider: a defence is a function from model to model (`Defense(settings)(model) -> model`).

A defence is one file that holds `Settings` (pydantic, every field shown in `configs/defense/<same path>.yaml`) and
`Defense(settings)`, whose call returns a defended model and leaves the one it was given as it was. Its maths are pure
functions above the class. The class says of itself:

- `point`: where it acts, one of `none`, `weights`, `decoding` (the next-token distribution), `text` (which takes the
  logprobs away with it) or `logprobs`;
- `passes`: extra forward passes per generated token;
- `keeps_argmax`: whether the most likely next token is the same with it as without, whatever the settings;
- `needs`: what it must be handed beside its settings, by name;
- `identity`: the settings under which the defended model answers as the undefended one does, bit for bit.

A defended model keeps the order of the prompts, says the same for the same seed, and lets no prompt change the answer
to another; `tests/defenses/test_contract.py` finds every config and holds its defence to that. What changes scores
needs a `LanguageModel`, so it is applied before what changes finished answers: scores first, text last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.answers import BadInput

if TYPE_CHECKING:
    from distill.models import LanguageModel, Model


def with_scores(model: Model, name: str) -> LanguageModel:
    """The model, if it still has next-token scores for defence `name` to change; BadInput otherwise."""
    from distill.models import LanguageModel  # here, so that `import defenses` does not load torch

    if not isinstance(model, LanguageModel):
        raise BadInput(
            f"defense {name}: got a {type(model).__name__}, it changes next-token scores and needs a LanguageModel; "
            "apply scores first, text last"
        )
    return model
