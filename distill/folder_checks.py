"""What must hold of a model's folder, whatever kind of model it is, and errors of libraries in one
line.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.completions import BadInput
from distill.models import CONTEXT


def check_size(
    where: str, folder: Path, config: Any, kinds: tuple[str, ...], build: Any = None
) -> None:
    """A config may ask for no more than the folder's files can hold: building it could take hours.

    Args:
        where: what messages begin with.
        folder: or file; a name on the hub is not checked.
        config: of transformers.
        kinds: the ends of the names of files that hold weights.
        build: makes a network of the config; a causal language model, if None.

    Raises:
        BadInput: it does.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    context = getattr(text, CONTEXT, 1)
    if type(context) is not int or context < 1:
        raise BadInput(
            f"{where}: its config.json must give {CONTEXT} of at least 1, got {context!r}"
        )
    layers = getattr(text, "num_hidden_layers", 1)
    if type(layers) is not int or layers < 1:
        raise BadInput(
            f"{where}: its config.json must give num_hidden_layers of at least 1, got {layers!r}"
        )
    if not folder.exists():
        return  # a name on the hub
    inside = [folder] if folder.is_file() else folder.iterdir()
    files, tensors = [one for one in inside if one.suffix in kinds], 0
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                tensors += len(opened.keys())
        if file.suffix == ".gguf":
            with file.open("rb") as head:
                tensors += int.from_bytes(head.read(16)[8:], "little")
    if tensors and layers > tensors:
        raise BadInput(
            f"{where}: its config.json asks for {layers} layers, its files hold {tensors} tensors"
        )
    build = build or AutoModelForCausalLM.from_config
    with torch.device("meta"):
        wanted = sum(weight.numel() for weight in build(config).parameters())
    there = sum(one.stat().st_size for one in files)
    if files and wanted > 8 * there:  # a quantised weight may take an eighth of a byte
        raise BadInput(
            f"{where}: its config.json asks for {wanted} weights, its files hold {there} bytes"
        )


def check_weights(where: str, network: Any, info: dict[str, Any]) -> None:
    """transformers must not fill weights in at random, or leave layers out.

    Weights of another kind than the network has, such as a value head's, are nobody's loss.

    Args:
        where: what messages begin with.
        network: as it was loaded.
        info: what transformers says of the loading.

    Raises:
        BadInput: it did either.
    """

    def kind(name: str) -> str:
        return re.sub(r"\d+", "#", name)

    kinds = {kind(name) for name in network.state_dict()}
    faults = (
        ("lacks", [*info["missing_keys"]]),
        (
            "has in other shapes than its config.json says",
            [one[0] for one in info["mismatched_keys"]],
        ),
        (
            "has more than its config.json says",
            [name for name in info["unexpected_keys"] if kind(name) in kinds],
        ),
    )
    for what, names in faults:
        if names:
            raise BadInput(f"{where}: {what} {len(names)} weights, first {min(names)}")
    if info.get("error_msgs"):
        raise BadInput(f"{where}: {info['error_msgs'][0]}")


@contextlib.contextmanager
def one_line(where: str) -> Iterator[None]:
    """Whatever libraries raise at a broken folder is a BadInput of one line, and they say nothing
    themselves.

    Args:
        where: what the line begins with.

    Raises:
        BadInput: anything was raised but Ctrl-C, an exit or a lack of memory.
    """
    from transformers.utils import logging

    log: Any = logging  # transformers gives it no types
    loud = log.get_verbosity()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    except BadInput:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
            raise
        line = " ".join(str(error).split())[:300]
        reason = (
            line
            if isinstance(error, OSError | ValueError)
            else f"cannot be read ({type(error).__name__}: {line})"
        )
        raise BadInput(f"{where}: {reason}") from error
    finally:
        log.set_verbosity(loud)
