"""Models in folders and on the hub: read without running what lies in them, and refused unless
whole.

Nothing is executed, nothing unpickled unless that was asked for, no weight is filled in, and
whatever else is wrong with a folder is one line.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill import adapters
from distill.completions import BadInput, Prompt
from distill.folder_checks import check_size, check_weights, one_line
from distill.generation import forward_step
from distill.models import LanguageModel, context_of, device_of, finite, vocabulary_of
from distill.rendering import ends, prompt_ids, token_count, with_chat
from distill.specs import ChatConfig, PretrainedModel


def load(
    model: str | PretrainedModel, *, may_diverge: bool = False, **decoding: Any
) -> LanguageModel:
    """A causal language model and its tokenizer from a local folder, a GGUF file or a hub name,
    through transformers.

    Args:
        model: what it is; a text is its path.
        may_diverge: weights need not be finite, see `LanguageModel`.
        decoding: further fields of `LanguageModel`.

    Raises:
        BadInput: anything cannot be read or does not fit.
    """
    import torch

    spec = _spec(model)
    where, device = f"model {spec.path!r}", device_of(spec.device)
    with one_line(where):
        network = _network(where, spec)
        tokenizer = _tokenizer(spec)
        rows = network.get_input_embeddings().num_embeddings
        if (tokens := token_count(tokenizer)) > rows:
            raise BadInput(
                f"{where}: its tokenizer has {tokens} tokens, its network rows for {rows}"
            )
        if spec.adapter is not None:
            adapters.read(network, Path(spec.adapter))
        if not (may_diverge or finite(network)):
            raise BadInput(f"{where}: holds weights that are not finite numbers")
        network = network.to(device).eval()
        end_BT = torch.tensor([[tokenizer.eos_token_id]], device=device)
        # What cannot be run at all is found here, and not by the first prompt.
        with torch.inference_mode():
            forward_step(network, end_BT, torch.ones_like(end_BT), None)
    try:
        ends(tokenizer, network)
        prompt_ids(tokenizer, Prompt("a first one", "1"))
    except BadInput as error:  # before anything is asked
        raise BadInput(f"{where}: {error}") from error
    return LanguageModel(network, tokenizer, may_diverge=may_diverge, **decoding)


def _network(where: str, spec: PretrainedModel) -> Any:
    """A network with its own weights, all of them and no others."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    source, options = _source(where, spec)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    check_size(where, Path(spec.path), config, _kinds(spec))
    is_gguf = "gguf_file" in options
    # A GGUF file is read with a bar of its own that nothing turns off.
    with contextlib.redirect_stderr(io.StringIO()) if is_gguf else contextlib.nullcontext():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            use_safetensors=None if spec.allow_pickle or is_gguf else True,
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=getattr(torch, spec.dtype),
            **options,
        )
    network, info = loaded
    check_weights(where, network, info)
    if not is_gguf:
        return network
    # transformers saves none that it has read from such a file.
    build: Any = AutoModelForCausalLM.from_config
    whole = build(config, dtype=getattr(torch, spec.dtype))
    whole.load_state_dict(network.state_dict())
    whole.generation_config = network.generation_config
    return whole


def _source(where: str, spec: PretrainedModel) -> tuple[str, dict[str, str]]:
    """What transformers is asked for, and how it is told which file or commit."""
    path = Path(spec.path)
    if path.suffix != ".gguf":
        return spec.path, {"revision": spec.revision} if spec.revision else {}
    if not path.is_file():
        raise BadInput(f"{where}: no such file")
    if importlib.util.find_spec("gguf") is None:
        raise BadInput(f"{where}: GGUF files need gguf: pip install 'distill-resist[real]'")
    return str(path.parent), {"gguf_file": path.name}


def _kinds(spec: PretrainedModel) -> tuple[str, ...]:
    """The ends of the names of files that hold weights."""
    if spec.path.endswith(".gguf"):
        return (".gguf",)
    return (".safetensors", ".bin") if spec.allow_pickle else (".safetensors",)


@dataclass(frozen=True)
class ModelFolder:
    """What a folder or a name on the hub holds beside its weights."""

    tokenizer: Any
    context: float  # tokens of prompt and completion together; infinite where it names no end
    weights: float  # about how many its network has

    @functools.cached_property
    def vocabulary(self) -> str:
        """SHA-256 of the tokenizer, as a loaded model's."""
        return vocabulary_of(self.tokenizer)

    def tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt takes, as the model reads it.

        Args:
            prompt: of anybody.

        Raises:
            BadInput: the chat template cannot write it.
        """
        return len(prompt_ids(self.tokenizer, prompt))


def inspect(model: str | PretrainedModel) -> ModelFolder:
    """Open a model's config, tokenizer and list of files, and not its weights: a second's work.

    Args:
        model: what it is; a text is its path.

    Raises:
        BadInput: in one line, what is missing or does not fit.
    """
    from transformers import AutoConfig

    spec = _spec(model)
    where, kinds, path = f"model {spec.path!r}", _kinds(spec), Path(spec.path)
    device_of(spec.device)
    with one_line(where):
        source, options = _source(where, spec)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        check_size(where, path, config, kinds)
        tokenizer = _tokenizer(spec)
    if path.is_dir() and not any(file.suffix in kinds for file in path.iterdir()):
        raise BadInput(f"{where}: holds no weights (*{', *'.join(kinds)})")
    folder = ModelFolder(tokenizer, context_of(config), _about_weights(config))
    folder.tokens(Prompt("a first one", "1"))
    return folder


def _about_weights(config: Any) -> float:
    """Weights of a transformer of that shape: its table, and in each layer four square maps and a
    gated MLP. Nothing is built for it.
    """
    text = config.get_text_config()
    width, layers = text.hidden_size, text.num_hidden_layers
    inner = getattr(text, "intermediate_size", None) or 4 * width
    return float(layers * (4 * width**2 + 3 * width * inner) + text.vocab_size * width)


def commit_of(name: str, revision: str) -> str:
    """The commit that a name on the hub stands for now: the hub's, or the one in the local cache
    where there is no network.

    Args:
        name: `owner/model` on the hub.
        revision: a branch, a tag or a commit; empty is `main`.

    Returns:
        40 hexadecimal digits.

    Raises:
        BadInput: neither knows.
    """
    from huggingface_hub import HfApi, scan_cache_dir
    from huggingface_hub.errors import HFValidationError

    wanted = revision or "main"
    if re.fullmatch(r"[0-9a-f]{40}", wanted):
        return wanted
    try:
        commit = HfApi().model_info(name, revision=wanted, timeout=10).sha
    except HFValidationError as error:
        raise BadInput(f"model {name!r}: {error}") from error
    except Exception:  # whatever an unreachable network raises
        cached = [repo for repo in scan_cache_dir().repos if repo.repo_id == name]
        refs = [repo.refs[wanted].commit_hash for repo in cached if wanted in repo.refs]
        commit = refs[0] if refs else None
    if commit is None:
        raise BadInput(
            f"model {name!r}: the hub cannot be reached, or has no revision {wanted!r} of it, and "
            "no copy is cached here"
        )
    return str(commit)


def save(model: LanguageModel, folder: Path) -> None:
    """Write weights (safetensors) and tokenizer so that `load` finds them, of a network with an
    adapter the adapter alone.

    Args:
        model: with a network of transformers.
        folder: is made.

    Raises:
        OSError: the disk is full.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    log: Any = logging  # transformers gives it no types
    log.disable_progress_bar()
    try:
        if adapters.is_on(model.network):
            adapters.write(model.network, folder)
        else:
            model.network.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error  # its own type hides that the disk is full
    model.tokenizer.save_pretrained(folder)


def open_tokenizer(model: str | PretrainedModel) -> Any:
    """The tokenizer of a model.

    Args:
        model: a folder, a name on the hub, or either with its options.

    Raises:
        BadInput: there is none that is whole.
    """
    spec = _spec(model)
    with one_line(f"model {spec.path!r}"):
        return _tokenizer(spec)


def tokenizer_digest(model: str | PretrainedModel) -> str:
    """SHA-256 of the tokenizer of a model: equal for models whose token ids mean the same."""
    return vocabulary_of(open_tokenizer(model))


def _spec(model: str | PretrainedModel) -> PretrainedModel:
    """A text is a path."""
    return PretrainedModel.model_construct(path=model) if isinstance(model, str) else model


def _tokenizer(spec: PretrainedModel) -> Any:
    from transformers import AutoTokenizer

    source, options = _source(f"model {spec.path!r}", spec)
    tokenizer = AutoTokenizer.from_pretrained(
        source, padding_side="left", trust_remote_code=False, **options
    )
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "its tokenizer names no end-of-text token (eos_token in tokenizer_config.json)"
        )
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no tokenizer.json; convert it to a fast one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer("1", add_special_tokens=False)
    if spec.chat != ChatConfig():  # else what the folder itself says, as a student's does
        with_chat(tokenizer, spec.chat)
    return tokenizer
