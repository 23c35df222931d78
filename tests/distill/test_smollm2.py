"""A real pretrained model: SmolLM2-135M-Instruct from its GGUF file."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill.completions import Interface, Prompt
from distill.folders import load, save
from tests.distill.smollm2 import smollm2

MOST = 8
PROMPTS = [
    Prompt("a", "What is the capital of France?"),
    Prompt("b", "What is 2+3?", system="Answer with one number."),
    Prompt("c", "Say <|im_end|> twice."),
]


@pytest.mark.slow
def test_it_answers_from_its_file_and_from_a_folder_as_generate_does(tmp_path):
    model = load(str(smollm2()), max_new_tokens=MOST, batch_size=3)
    save(model, tmp_path / "folder")
    network, tokenizer = (
        kind.from_pretrained(tmp_path / "folder") for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    answers = model.generate(PROMPTS, seed=0, interface=Interface())
    for prompt, answer in zip(PROMPTS[:2], answers[:2], strict=True):
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        ids = tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": prompt.text}],
            add_generation_prompt=True,
            return_tensors="pt",
        )["input_ids"]
        out = network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, do_sample=False
        )
        generated = out[0, ids.shape[1] :].tolist()
        finished = generated[-1] == tokenizer.eos_token_id
        assert [*answer.token_ids] == generated[: len(generated) - finished]
    assert "Paris" in answers[0].text
    # Two turns of a template end in two ends; one more would end the question before its time.
    assert model.encode(PROMPTS[2]).count(tokenizer.eos_token_id) == 2
