"""Greedy answers of every architecture equal transformers' own `generate`, token by token, in
batches of any size; and training reads them."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM

from distill.completions import Interface, Prompt
from distill.embedded import byte_pair_tokenizer
from distill.models import LanguageModel
from distill.objectives import Example, imitation
from distill.rendering import prompt_ids

ROWS = 320  # of the networks: more than the tokenizer has tokens
SIZES = {"vocab_size": ROWS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MLP = SIZES | {"intermediate_size": 64}
GROUPED = MLP | {"num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES = {
    "gpt2": {"vocab_size": ROWS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96},
    "llama": GROUPED,
    "qwen2": MLP | {"num_key_value_heads": 2},
    "qwen3": GROUPED,
    "gemma2": GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "gemma3_text": GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "mistral": GROUPED | {"sliding_window": 8},
    "opt": SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 96},
    "gpt_neox": MLP,
    "phi3": MLP | {"num_key_value_heads": 2, "pad_token_id": 0},
    "falcon": SIZES | {"alibi": False, "new_decoder_architecture": False},
    "bloom": {"vocab_size": ROWS, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": {"vocab_size": ROWS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}
TEXTS = ("1", "12+34=", "user", "a longer prompt of several words", "9", "x y z 12+34=46 and on")
MOST = 12
BEGIN = 2


@pytest.fixture(scope="module")
def tokenizer():
    """Byte pairs; it writes a begin-of-text in front of a prompt."""
    made = byte_pair_tokenizer(["12+34=6 # 46", "user assistant"] * 3, 300)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BEGIN)]
    )
    return made


def network_of(kind):
    special = {"bos_token_id": BEGIN, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **(special | ARCHITECTURES[kind]))
    torch.manual_seed(5)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in network.parameters():  # so that the likeliest token is no near tie
            if weight.dim() == 2:
                weight.normal_(std=0.4)
    return network


def generated(network, tokenizer, prompt):
    """What `generate` says to a prompt alone, up to the first of its ends."""
    ids = prompt_ids(tokenizer, prompt)
    out = network.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=MOST,
        do_sample=False,
        suppress_tokens=[*range(len(tokenizer), ROWS)],
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_greedy_answers_are_those_of_generate(kind, tokenizer):
    network = network_of(kind)
    prompts = [Prompt(str(i), text) for i, text in enumerate(TEXTS)]
    # A second end, which some answer meets: what it says third to the second prompt.
    network.generation_config.eos_token_id = [1]
    second = generated(network, tokenizer, prompts[1])[2]
    network.generation_config.eos_token_id = [1, second]
    expected = [generated(network, tokenizer, prompt) for prompt in prompts]
    assert any(one[-1] == second for one in expected)

    for size in (1, 2, 6):
        model = LanguageModel(network, tokenizer, max_new_tokens=MOST, batch_size=size)
        answers = model.generate(prompts, seed=0, interface=Interface())
        for answer, ids in zip(answers, expected, strict=True):
            finished = ids[-1] in (1, second)
            assert [*answer.token_ids] == ids[: len(ids) - finished], (kind, size)
            assert answer.finished == finished


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_loss_is_transformers_own(kind, tokenizer):
    """Of two padded rows with labels on their answers alone, through the network's own head."""
    network = network_of(kind)
    rows = [Example([2, 7, 9], [11, 12, 1]), Example([2, 8], [20, 1])]
    tokens_BT = torch.tensor([[2, 7, 9, 11, 12, 1], [2, 8, 20, 1, 0, 0]])
    labels_BT = torch.tensor([[-100, -100, -100, 11, 12, 1], [-100, -100, 20, 1, -100, -100]])
    ours = imitation(network, rows, 0, torch.device("cpu"))
    theirs = network(
        input_ids=tokens_BT, attention_mask=(tokens_BT != 0).long(), labels=labels_BT
    ).loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
