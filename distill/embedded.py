"""The embedded default: a character tokenizer and small Llama shapes, so that nothing has to be
downloaded.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

THETA = 100.0
PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
TURNS = "{% for message in messages %}{{ message['content'] }}{{ '\n' }}{% endfor %}"


def character_tokenizer(alphabet: str, has_turns: bool = False) -> PreTrainedTokenizerFast:
    """One token a character of `alphabet`, after pad (0), end (1) and unknown (2).

    Args:
        alphabet: its characters in any order; what is there twice counts once.
        has_turns: whether it gets a chat template, which writes a conversation a turn a line.
    """
    symbols = [PAD, END, UNKNOWN, *sorted(set(alphabet))]
    core = Tokenizer(
        models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token=UNKNOWN)
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = _tokenizer(core, unk_token=UNKNOWN)
    if has_turns:
        tokenizer.chat_template = TURNS
    return tokenizer


def byte_pair_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `size` tokens learned from `texts`: no text is unknown to it.

    Args:
        texts: what merges are learned from.
        size: tokens in all, bytes and special ones among them.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return _tokenizer(core)


def _tokenizer(core: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    build: Any = PreTrainedTokenizerFast  # transformers gives it no types
    tokenizer: PreTrainedTokenizerFast = build(
        tokenizer_object=core, pad_token=PAD, eos_token=END, padding_side="left", **special
    )
    return tokenizer


def llama(
    tokenizer: Any,
    *,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    max_length: int,
    seed: int,
    intermediate_size: int | None = None,
    init: float | None = None,
) -> LlamaForCausalLM:
    """A randomly initialised Llama for `tokenizer`; the weights are a function of the shape and
    `seed` alone.

    Args:
        tokenizer: with the vocabulary that it reads.
        hidden_size: a multiple of `num_heads`.
        num_layers: blocks.
        num_heads: of each block.
        max_length: tokens of its context.
        seed: of the weights.
        intermediate_size: width of the MLPs; None: Llama's 8/3 of the hidden size.
        init: standard deviation of the weights; None: 0.8 / sqrt(hidden_size), with which widths
            below 100 learn in hundreds of steps what Llama's 0.02 has not begun to learn.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or 8 * hidden_size // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=max_length,
        initializer_range=0.8 * hidden_size**-0.5 if init is None else init,
        # Contexts here have a hundred tokens: with Llama's 10,000 most rotations would hardly turn
        # within them.
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = LlamaForCausalLM(config)
        network.eval()
        return cast(LlamaForCausalLM, network)
