"""Low-rank adapters: put onto a network, kept, read and merged. The one home of peft, an extra."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.completions import BadInput
from distill.specs import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = "default"  # of the one adapter that a network has
PREFIX = "base_model.model."  # of names in peft's files


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

    Raises:
        BadInput: it is not whole, no LoRA adapter, or of another base.
    """
    from safetensors.torch import load_file

    where, peft = f"adapter {str(folder)!r}", _peft()
    check(folder)
    try:
        settings = peft.LoraConfig.from_pretrained(str(folder))
        kind = json.loads((folder / CONFIG).read_bytes())["peft_type"]
        weights = load_file(folder / WEIGHTS)
        if kind != "LORA":
            raise ValueError(f"its peft_type is {kind}; LORA is what can be read")
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
    """Keep a network's adapter as peft does, so that others can read it."""
    from safetensors.torch import save_file

    network.peft_config[NAME].save_pretrained(str(folder))
    weights = {
        name: weight.detach().cpu().contiguous() for name, weight in _weights(network).items()
    }
    save_file(weights, folder / WEIGHTS)


def is_on(network: Any) -> bool:
    """Whether a network has an adapter."""
    return bool(getattr(network, "peft_config", None))


def merged(network: Any) -> Any:
    """A copy of a network in whose weights its adapter is merged."""
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
