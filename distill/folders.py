"""Models in folders and on the hub: read without running what lies in them, and refused unless
whole.

Nothing is executed, nothing unpickled unless that was asked for, no weight is filled in, and
whatever else is wrong with a folder is one line.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.completions import BadInput, Prompt
from distill.generation import forward_step
from distill.models import LanguageModel, finite, vocabulary_of
from distill.rendering import prompt_ids


def load(
    name: str, *, allow_pickle: bool = False, may_diverge: bool = False, **decoding: Any
) -> LanguageModel:
    """A causal language model and its tokenizer from a local folder or a hub name, through
    transformers.

    Weights are safetensors; `allow_pickle` takes PyTorch's own files as well. With `may_diverge`
    they need not be finite, see `LanguageModel`; `decoding` are its fields. BadInput where anything
    cannot be read or does not fit.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    where = f"model {name!r}"
    with _one_line(where):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _check_size(
            where,
            Path(name),
            config,
            (".safetensors", ".bin") if allow_pickle else (".safetensors",),
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            trust_remote_code=False,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        network, info = loaded
        _check_weights(where, network, info)
        tokenizer = _tokenizer(name)
        rows, tokens = (
            network.get_input_embeddings().num_embeddings,
            max(tokenizer.get_vocab().values()) + 1,
        )
        if tokens > rows:
            raise BadInput(
                f"{where}: its tokenizer has {tokens} tokens, its network rows for {rows}"
            )
        if not (may_diverge or finite(network)):
            raise BadInput(f"{where}: holds weights that are not finite numbers")
        end_BT = torch.tensor([[tokenizer.eos_token_id]])
        with (
            torch.inference_mode()
        ):  # what cannot be run at all is found here, and not by the first prompt
            forward_step(network.eval(), end_BT, torch.ones_like(end_BT), None)
    model = LanguageModel(network, tokenizer, may_diverge=may_diverge, **decoding)
    try:
        prompt_ids(tokenizer, Prompt("a first one", "1"))
    except BadInput as error:  # before anything is asked
        raise BadInput(f"{where}: {error}") from error
    return model


@dataclass(frozen=True)
class ModelFolder:
    """What a folder or a name on the hub holds beside its weights."""

    tokenizer: Any
    context: int  # tokens of prompt and completion together

    @functools.cached_property
    def vocabulary(self) -> str:
        """SHA-256 of the tokenizer, as a loaded model's."""
        return vocabulary_of(self.tokenizer)

    def tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt takes, as the model reads it; BadInput where it cannot."""
        return len(prompt_ids(self.tokenizer, prompt))


def inspect(name: str, *, allow_pickle: bool = False) -> ModelFolder:
    """Open a model's config, tokenizer and list of files, and not its weights: a second's work.

    Args:
        name: local folder, or name on the hub.
        allow_pickle: whether PyTorch's own files count as weights.

    Raises:
        BadInput: in one line, what is missing or does not fit.
    """
    from transformers import AutoConfig

    where, kinds = f"model {name!r}", (".safetensors", *[".bin"] * allow_pickle)
    with _one_line(where):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _check_size(where, Path(name), config, kinds)
        tokenizer = _tokenizer(name)
    if Path(name).is_dir() and not any(file.suffix in kinds for file in Path(name).iterdir()):
        raise BadInput(f"{where}: holds no weights (*{', *'.join(kinds)})")
    folder = ModelFolder(tokenizer, config.max_position_embeddings)
    folder.tokens(Prompt("a first one", "1"))
    return folder


def save(model: LanguageModel, folder: Path) -> None:
    """Write weights (safetensors) and tokenizer so that `load` finds them; OSError where the disk
    is full.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    log: Any = logging  # transformers gives it no types
    log.disable_progress_bar()
    try:
        model.network.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error  # its own type hides that the disk is full
    model.tokenizer.save_pretrained(folder)


def open_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub name; BadInput where there is none that is whole."""
    with _one_line(f"model {name!r}"):
        return _tokenizer(name)


def tokenizer_digest(name: str) -> str:
    """SHA-256 of the tokenizer of a folder or hub name: equal for models whose token ids mean the
    same.
    """
    return vocabulary_of(open_tokenizer(name))


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "its tokenizer names no end-of-text token (eos_token in tokenizer_config.json)"
        )
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no tokenizer.json; convert it to a fast one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer("1", add_special_tokens=False)
    return tokenizer


def _check_size(where: str, folder: Path, config: Any, kinds: tuple[str, ...]) -> None:
    """BadInput where a config asks for more than the folder's files can hold: building it could
    take hours.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    context = getattr(config, "max_position_embeddings", None)
    if type(context) is not int or context < 1:
        raise BadInput(
            f"{where}: its config.json must give max_position_embeddings of at least 1, got "
            f"{context!r}"
        )
    layers = getattr(config, "num_hidden_layers", 1)
    if type(layers) is not int or layers < 1:
        raise BadInput(
            f"{where}: its config.json must give num_hidden_layers of at least 1, got {layers!r}"
        )
    if not folder.is_dir():
        return  # a name on the hub
    files, tensors = [one for one in folder.iterdir() if one.suffix in kinds], 0
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                tensors += len(opened.keys())
    if tensors and layers > tensors:
        raise BadInput(
            f"{where}: its config.json asks for {layers} layers, its files hold {tensors} tensors"
        )
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        wanted = sum(weight.numel() for weight in build(config).parameters())
    there = sum(one.stat().st_size for one in files)
    if files and wanted > 8 * there:  # a quantised weight may take an eighth of a byte
        raise BadInput(
            f"{where}: its config.json asks for {wanted} weights, its files hold {there} bytes"
        )


def _check_weights(where: str, network: Any, info: dict[str, Any]) -> None:
    """BadInput where transformers would fill weights in at random, or leave layers out.

    Weights of another kind than the network has, such as a value head's, are nobody's loss.
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
def _one_line(where: str) -> Iterator[None]:
    """Whatever libraries raise at a broken folder is a BadInput of one line, and they say nothing
    themselves.
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
