"""What a provider does with weights: batches of its own traces, gradients, and tuning a copy of a
network.

A tied head is the embedding itself: to train the head alone is to give it weights of its own first.
What is learned then names the head, and `changed` takes that name as word that the head has its
own. Axes: B rows, T positions, N positions that carry loss (those of answers), V vocabulary.
"""

from __future__ import annotations

import copy
import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from defenses import NO_RESOURCES, BaseDefense, ProviderResources, require_language_model
from distill.completions import BadInput, Completion
from distill.models import LanguageModel, Model
from distill.rendering import text_ids
from distill.trainer import BETAS, descend, rate

Which = Literal["all", "last_block", "head"]
Mean = Literal["token", "trace"]
Item = TypeVar("Item")


class Row(NamedTuple):
    """A prompt and the answer to it as token ids; the answer ends with end-of-text if it was
    finished.
    """

    prompt_ids: list[int]
    answer_ids: list[int]


def rows(model: LanguageModel, answers: Iterable[Completion]) -> list[Row]:
    """Answers as the model's own token ids, its chat template included; answers of which nothing is
    left fall out.

    Args:
        model: with its tokenizer.
        answers: to be learned from, or against.
    """
    encoded = []
    for answer in answers:
        ids = list(answer.token_ids) or text_ids(model.tokenizer, answer.text)
        ids += [model.tokenizer.eos_token_id] * answer.finished
        if ids:
            encoded.append(Row(model.encode(answer.question), ids))
    return encoded


def answer_logits(network: Any, batch: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Scores `[N, V]` in float32 at the positions before each answer token, and these tokens `[N]`,
    row after row.

    Args:
        network: a causal language model.
        batch: rows of prompt and answer.
    """
    width = max(len(row.prompt_ids) + len(row.answer_ids) for row in batch)
    full = [row.prompt_ids + row.answer_ids for row in batch]
    # Causal attention never looks right, so right padding needs no mask.
    tokens_BT = torch.tensor(
        [ids + [0] * (width - len(ids)) for ids in full], device=network.device
    )
    index = [
        b * width + len(row.prompt_ids) - 1 + t
        for b, row in enumerate(batch)
        for t in range(len(row.answer_ids))
    ]
    targets_N = torch.tensor(
        [token for row in batch for token in row.answer_ids], device=network.device
    )
    logits_BTV = network(input_ids=tokens_BT).logits
    return logits_BTV.reshape(-1, logits_BTV.shape[-1])[index].float(), targets_N


def loss(network: Any, batch: Sequence[Row]) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens `[]`, nats a token.

    Args:
        network: a causal language model.
        batch: rows of prompt and answer.
    """
    return functional.cross_entropy(*answer_logits(network, batch))


def fixed_logits(network: Any, batch: Sequence[Row]) -> Tensor:
    """Scores `[N, V]` of a network that does not learn, such as the clean teacher or a proxy.

    Args:
        network: a causal language model.
        batch: rows of prompt and answer.
    """
    with torch.no_grad():
        return answer_logits(network, batch)[0]


def trace_losses(network: Any, batch: Sequence[Row]) -> Tensor:
    """Mean negative log-likelihood of each answer's tokens `[B]`, nats a token.

    Args:
        network: a causal language model.
        batch: rows of prompt and answer.
    """
    nats_N = functional.cross_entropy(*answer_logits(network, batch), reduction="none")
    parts = nats_N.split([len(row.answer_ids) for row in batch])
    return torch.stack([part.mean() for part in parts])


def gradient(
    network: Any, traces: Sequence[Row], batch_size: int = 32, mean: Mean = "token"
) -> dict[str, Tensor]:
    """Gradient of the mean loss, `[...]` by parameter name, float32; the network is left as it was.

    Args:
        network: a causal language model.
        traces: rows of tokens with answers.
        batch_size: rows at once.
        mean: over all answer tokens alike, or over traces, each the mean of its tokens.
    """
    twin = copied(network).float()
    total = sum(len(row.answer_ids) for row in traces)
    with torch.inference_mode(False), torch.enable_grad():
        for start in range(0, len(traces), batch_size):
            batch = traces[start : start + batch_size]
            if mean == "trace":
                part = trace_losses(twin, batch).sum() / len(traces)
            else:
                part = loss(twin, batch) * sum(len(row.answer_ids) for row in batch) / total
            part.backward()
    return {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}


def unit_direction(
    gradients: Mapping[str, Tensor], defense: str
) -> tuple[dict[str, Tensor], Tensor]:
    """The direction of unit L2 norm over all parameters, and the norm of the gradient.

    Args:
        gradients: `[...]` by parameter name.
        defense: its name, for the message.

    Returns:
        The direction in the shapes and dtypes of the gradient; the norm `[]` in float64.

    Raises:
        BadInput: the norm is 0 or not finite.
    """
    norm = torch.stack([one.double().square().sum() for one in gradients.values()]).sum().sqrt()
    if not 0 < norm < torch.inf:
        raise BadInput(
            f"defense {defense}: the proxy's gradient over the traces has norm {float(norm)}; no "
            "direction"
        )
    return {name: (one / norm).to(one.dtype) for name, one in gradients.items()}, norm


def copied(network: Any) -> Any:
    """A copy whose weights may change, without dropout and outside inference mode.

    Args:
        network: of transformers.
    """
    with torch.inference_mode(False):
        return copy.deepcopy(network).eval().requires_grad_(True)


def head(network: Any) -> str:
    """The name of the module that turns the last hidden state into scores.

    Args:
        network: a causal language model of transformers.
    """
    return str(
        next(
            name for name, one in network.named_modules() if one is network.get_output_embeddings()
        )
    )


def untie(network: Any) -> None:
    """Give the head weights of its own, equal to the embedding's; also in the config, so that
    saving keeps them.

    Args:
        network: a causal language model of transformers; changed in place.
    """
    top = network.get_output_embeddings()
    if top.weight is network.get_input_embeddings().weight:
        with torch.inference_mode(False):
            top.weight = torch.nn.Parameter(top.weight.detach().clone())
        network.config.get_text_config().tie_word_embeddings = (
            network.config.tie_word_embeddings
        ) = False


def learner(network: Any, part: Which = "all") -> Any:
    """A float32 copy of which one part asks for gradients: all, the last block, or the head
    (untied) alone.

    Args:
        network: a causal language model; it is copied.
        part: which of its weights learn.
    """
    twin = copied(network).float()
    if part == "all":
        return twin
    twin.requires_grad_(False)
    if part == "head":
        untie(twin)
        twin.get_output_embeddings().requires_grad_(True)
    else:
        deep = twin.config.get_text_config().num_hidden_layers
        blocks = next(
            m for m in twin.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == deep
        )
        blocks[-1].requires_grad_(True)
    return twin


def learned(twin: Any) -> dict[str, Tensor]:
    """The parameters of a `learner` that asked for gradients, `[...]` by name.

    Args:
        twin: as `learner` made it.

    Returns:
        Copies, outside any graph.
    """
    return {name: p.detach().clone() for name, p in twin.named_parameters() if p.requires_grad}


def changed(network: Any, weights: Mapping[str, Tensor]) -> Any:
    """A copy with some parameters replaced; where these name a tied head, it is untied.

    Args:
        network: a causal language model.
        weights: `[...]` by parameter name.

    Raises:
        BadInput: a name or a shape is not the network's.
    """
    twin = copied(network)
    if any(name.startswith(f"{head(twin)}.") for name in weights):
        untie(twin)
    named = dict(twin.named_parameters())
    if strange := [
        name
        for name, value in weights.items()
        if name not in named or named[name].shape != value.shape
    ]:
        raise BadInput(
            f"learned weights: {strange[0]!r} is no parameter of the network, or has another "
            "shape there"
        )
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)
    return twin.requires_grad_(False)


def tune(
    parameters: Iterable[Tensor],
    objective: Callable[[Sequence[Item]], Tensor],
    items: Sequence[Item],
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int = 0,
    clip: float = 1.0,
) -> list[float]:
    """Minimise `objective(batch)` by AdamW with a warm-up of a tenth and a linear decay; the loss
    of every step.

    Args:
        parameters: what moves, `[...]` each.
        objective: of a batch of items `[]`, to be made small.
        items: that batches are drawn from.
        steps: of the optimiser.
        learning_rate: its peak.
        batch_size: items.
        seed: of the order.
        clip: largest norm of the gradient.
    """
    weights, rng, warmup = list(parameters), random.Random(seed), max(1, steps // 10)
    groups = [{"params": weights, "peak": learning_rate}]
    optimizer = torch.optim.AdamW(groups, learning_rate, betas=BETAS, weight_decay=0.0)
    rates = (rate(step, steps, warmup) for step in range(steps))

    def gradients() -> Tensor:
        value = objective(rng.sample(list(items), min(batch_size, len(items))))
        value.backward()
        return value.detach()

    with torch.inference_mode(False), torch.enable_grad():
        return [
            float(value) for value in descend(gradients, weights, [optimizer], rates, clip=clip)
        ]


class Tuned(BaseDefense):
    """Answers with other weights, which it learns; at its identity settings there is nothing to
    learn or to need.
    """

    name: ClassVar[str]

    def __init__(self, settings: Any, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if self.is_identity:
            self.traits = replace(self.traits, learns=False, needs=())

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, self.name)
        if self.is_identity:
            return scored
        if not self.resources.learned:
            raise BadInput(f"defense {self.name}: has learned nothing yet; `learn` comes first")
        return self.defended(scored)

    def defended(self, model: LanguageModel) -> LanguageModel:
        """The model with what was learned.

        Args:
            model: the teacher, undefended.
        """
        return replace(model, network=changed(model.network, self.resources.learned))

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        return {} if self.is_identity else self.taught(require_language_model(model, self.name))

    @abstractmethod
    def taught(self, model: LanguageModel) -> Mapping[str, Tensor]:
        """The parameters that change, `[...]` by name, float32; the model is left as it was.

        Args:
            model: the teacher, undefended.

        Raises:
            BadInput: the provider lacks what is needed.
        """
