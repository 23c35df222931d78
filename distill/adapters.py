"""Low-rank adapters: put onto a network, kept, read and merged. The one home of peft, an extra."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from distill.completions import BadInput
from distill.specs import LoraConfig
from distill.tables import parse_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = "default"  # of the one adapter that a network has
PREFIX = "base_model.model."  # of names in peft's files

Name = Annotated[str, StringConstraints(pattern=r"^[\w.]+$")]
"""Of a module or several; peft takes whatever else a text may hold for a pattern."""
Rank = Annotated[int, Field(ge=1)]
Layer = Annotated[int, Field(ge=0)]


class AdapterSettings(BaseModel):
    """What an adapter's config may ask for; whatever else it asks for is not read."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    peft_type: Literal["LORA"]
    r: Rank
    lora_alpha: int | float
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1)]
    exclude_modules: list[Name] | None = None
    layers_to_transform: Layer | list[Layer] | None = None
    layers_pattern: Name | list[Name] | None = None
    rank_pattern: dict[Name, Rank] = {}
    alpha_pattern: dict[Name, int | float] = {}
    bias: Literal["none"] = "none"
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | Literal["gaussian"] = True
    """Others change the base's weights as well."""


NOTES = {"base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"}
"""What a config says and does not ask for."""


def add(network: Any, config: LoraConfig, seed: int) -> None:
    """Put a fresh adapter onto a network, which is the only thing that moves from then on; its
    first weights are a function of the seed.

    Args:
        network: transformers' model, changed in place.
        config: rank, scale, dropout and which layers.
        seed: of the adapter's first weights.
    """
    peft = _peft()
    targets = config.targets if config.targets == "all-linear" else config.targets.split(",")
    settings = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(peft, network, settings)


def check(folder: str | Path) -> None:
    """Refuse a folder that is no adapter.

    Args:
        folder: of the adapter.

    Raises:
        BadInput: it lacks a file that peft writes, or peft is not installed.
    """
    for name in (CONFIG, WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise BadInput(
                f"adapter {str(folder)!r}: has no {name}; an adapter is a folder that peft wrote"
            )
    _peft()


def read(network: Any, folder: Path) -> None:
    """Put a kept adapter onto its base.

    Args:
        network: a base of transformers; it gets the adapter's layers and weights, in place.
        folder: of the adapter.

    Raises:
        BadInput: it is not whole, no LoRA adapter, or of another base.
    """
    from safetensors.torch import load_file

    where, peft = f"adapter {str(folder)!r}", _peft()
    check(folder)
    try:
        weights = load_file(folder / WEIGHTS)
        settings = _settings(peft, folder / CONFIG)
        _check_ranks(settings, weights)
        _inject(peft, network, settings)
    except Exception as error:
        raise BadInput(f"{where}: {' '.join(str(error).split())[:300]}") from error
    there = _weights(network)
    _check_layers(where, network, settings, weights)
    if strange := {*there} ^ {*weights}:
        raise BadInput(f"{where}: is of another base: {min(strange)} is in one of the two alone")
    for name, weight in weights.items():
        if there[name].shape != weight.shape:
            raise BadInput(
                f"{where}: is of another base: {name} has the shape {[*weight.shape]}, "
                f"the base needs {[*there[name].shape]}"
            )
        there[name].data.copy_(weight)


def _settings(peft: Any, path: Path) -> Any:
    """An adapter's config as peft has it; ValueError where it asks for what is not read here."""
    raw = parse_object(CONFIG, path.read_text("utf-8"))
    try:
        settings = AdapterSettings.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{CONFIG}: {place}: {first['msg']} (got {first['input']!r})") from None
    usual = peft.LoraConfig().to_dict()
    for name in raw.keys() - AdapterSettings.model_fields.keys() - NOTES:
        value = raw[name]
        if value is not None and value not in (False, {}, [], usual.get(name)):
            raise ValueError(f"{CONFIG} asks for {name} {value!r}, which cannot be read")
    # What it starts from is overwritten by its weights.
    values = settings.model_dump(exclude={"peft_type", "init_lora_weights"})
    return peft.LoraConfig(task_type="CAUSAL_LM", **values)


def _check_ranks(settings: Any, weights: dict[str, Tensor]) -> None:
    """ValueError where weights are no real numbers, or a rank is asked for that none of them has:
    making that could fill the memory.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise ValueError(f"{name} holds {weight.dtype}, not real numbers")
    wanted = max([settings.r, *settings.rank_pattern.values()])
    most = max((min(weight.shape, default=0) for weight in weights.values()), default=0)
    if wanted > most:
        raise ValueError(f"is of another base: its config asks for rank {wanted}, it has {most}")


def _check_layers(where: str, network: Any, settings: Any, weights: dict[str, Tensor]) -> None:
    """BadInput where a deeper network than the adapter's own has its widths: the names fit."""
    layers = {int(layer[1]) for name in weights if (layer := re.search(r"\.(\d+)\.", name))}
    deep = network.config.get_text_config().num_hidden_layers
    if settings.layers_to_transform is None and layers and layers != {*range(deep)}:
        raise BadInput(
            f"{where}: is of another base: it has weights for {len(layers)} layers, the base has "
            f"{deep}"
        )


def write(network: Any, folder: Path) -> None:
    """Keep a network's adapter as peft does, so that others can read it.

    Args:
        network: with an adapter.
        folder: that exists.
    """
    from safetensors.torch import save_file

    network.peft_config[NAME].save_pretrained(str(folder))
    weights = {
        name: weight.detach().cpu().contiguous() for name, weight in _weights(network).items()
    }
    save_file(weights, folder / WEIGHTS)


def is_on(network: Any) -> bool:
    """Whether a network has an adapter.

    Args:
        network: of transformers.
    """
    return bool(getattr(network, "peft_config", None))


def merged(network: Any) -> Any:
    """A copy of a network in whose weights its adapter is merged.

    Args:
        network: of transformers, with an adapter; it stays as it is.
    """
    from peft.tuners.lora import LoraLayer

    whole = copy.deepcopy(network)
    layers = [(name, m) for name, m in whole.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(whole.get_submodule(parent), child, layer.get_base_layer())
    del whole.peft_config
    return whole.requires_grad_(True)


def _inject(peft: Any, network: Any, settings: Any) -> None:
    peft.inject_adapter_in_model(settings, network, NAME)
    network.peft_config = {NAME: settings}
    for name, weight in network.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.float()  # what moves is in float32, whatever the base is in


def _weights(network: Any) -> dict[str, Tensor]:
    """The weights of a network's adapter by their names in peft's files."""
    return {
        PREFIX + name.replace(f".{NAME}", ""): weight
        for name, weight in network.named_parameters()
        if "lora_" in name
    }


def _peft() -> Any:
    """The library; BadInput where it is not there."""
    try:
        import peft
    except ImportError as error:
        raise BadInput("LoRA adapters need peft: pip install 'distill-resist[real]'") from error
    return peft
