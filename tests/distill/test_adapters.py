"""Low-rank adapters: trained as peft and a loop by hand train them, kept for peft, read from it."""

import shutil

import pytest
import torch

from distill import adapters
from distill.completions import BadInput
from distill.embedded import character_tokenizer, llama
from distill.folders import load, save
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import LoraConfig, PretrainedModel, TrainingConfig
from distill.trainer import BETAS, batches, rate, train, warmup_steps

peft = pytest.importorskip("peft", reason="LoRA needs peft, in the extra `real`")
TOKENIZER = character_tokenizer("0123456789+=# ")
EXAMPLES = [Example([3 + i % 9, 4, 5], [*range(3, 4 + i % 5), 3 + i % 7, 1]) for i in range(16)]
IDS = torch.tensor([[3, 4, 5, 6]])


def base(layers=2, width=16):
    return llama(
        TOKENIZER, hidden_size=width, num_layers=layers, num_heads=2, max_length=64, seed=0
    )


def scores(network):
    with torch.inference_mode():
        return network(IDS).logits


@pytest.fixture
def trained():
    """A network with an adapter that says something else than its base."""
    network = base()
    adapters.add(network, LoraConfig(r=4), seed=1)
    train(network, EXAMPLES, TrainingConfig(steps=3, batch_size=8, learning_rate=0.05), seed=0)
    assert not torch.allclose(scores(network), scores(base()), atol=1e-2)
    return network.eval()


def test_a_fresh_adapter_changes_nothing_and_alone_moves():
    network = base()
    adapters.add(network, LoraConfig(r=4), seed=1)
    assert torch.equal(scores(network), scores(base()))
    moving = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert moving and all("lora_" in name for name in moving)
    again, other = base(), base()
    adapters.add(again, LoraConfig(r=4), seed=1)
    adapters.add(other, LoraConfig(r=4), seed=2)
    first, same, differs = (
        torch.cat([w.flatten() for n, w in net.named_parameters() if "lora_A" in n])
        for net in (network, again, other)
    )
    assert torch.equal(first, same) and not torch.equal(first, differs)


def test_it_is_trained_as_pefts_own_model_and_a_loop_by_hand_train_it(tmp_path):
    """20 steps of the same batches: losses to 1e-4."""
    recipe = TrainingConfig(steps=20, batch_size=8, learning_rate=0.02, weight_decay=0.1)
    network = base()
    adapters.add(network, LoraConfig(r=4, alpha=8), seed=1)
    adapters.write(network, tmp_path)
    theirs = peft.PeftModel.from_pretrained(base(), str(tmp_path), is_trainable=True)
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1.0, betas=BETAS, weight_decay=0.1)
    plan = batches([len(e.prompt_ids + e.answer_ids) for e in EXAMPLES], 8, 0)
    by_hand = []
    for step in range(recipe.steps):
        rows = [EXAMPLES[i] for i in next(plan)]
        width = max(len(row.prompt_ids + row.answer_ids) for row in rows)
        ids, labels = [], []
        for row in rows:
            fill = width - len(row.prompt_ids + row.answer_ids)
            ids.append(row.prompt_ids + row.answer_ids + [0] * fill)
            labels.append([-100] * len(row.prompt_ids) + row.answer_ids + [-100] * fill)
        optimizer.param_groups[0]["lr"] = 0.02 * rate(step, recipe.steps, warmup_steps(recipe))
        loss = theirs(input_ids=torch.tensor(ids), labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        by_hand.append(float(loss))
    ours = train(network, EXAMPLES, recipe, seed=0)
    assert ours.losses[0] == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-4)
    assert by_hand[-1] < 0.8 * by_hand[0]
    assert torch.allclose(scores(network), scores(theirs), atol=1e-4)


def test_it_is_kept_read_and_merged(trained, tmp_path):
    save(LanguageModel(base(), TOKENIZER), tmp_path / "base")
    save(LanguageModel(trained, TOKENIZER), tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    spec = PretrainedModel(path=str(tmp_path / "base"), adapter=str(tmp_path / "adapter"))
    assert torch.equal(scores(load(spec).network), scores(trained))
    pefts = peft.PeftModel.from_pretrained(base(), str(tmp_path / "adapter"))
    assert torch.equal(scores(pefts), scores(trained))
    whole = adapters.merged(trained)
    assert not adapters.is_on(whole) and adapters.is_on(trained)
    assert torch.allclose(scores(whole), scores(trained), atol=1e-4)
    assert {name for name, _ in whole.named_parameters()} == {
        name for name, _ in base().named_parameters()
    }


def without(name):
    return lambda folder: (folder / name).unlink()


def text(name, old, new):
    def change(folder):
        path = folder / name
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "network", "message"),
    [
        (without("adapter_config.json"), base, "has no adapter_config.json"),
        (without("adapter_model.safetensors"), base, "has no adapter_model.safetensors"),
        (text("adapter_config.json", '"LORA"', '"IA3"'), base, "adapter .*: "),
        (text("adapter_config.json", "{", "["), base, "adapter .*: "),
        (text("adapter_config.json", '"r": 4', '"r": 5'), base, "is of another base"),
        (lambda folder: None, lambda: base(width=32), "is of another base: .* has the shape"),
        (lambda folder: None, lambda: base(layers=3), "weights for 2 layers, the base has 3"),
        (lambda folder: None, lambda: base(layers=1), "is of another base"),
    ],
)
def test_one_of_another_base_or_damaged_is_one_line(change, network, message, trained, tmp_path):
    adapters.write(trained, tmp_path / "it")
    change(shutil.copytree(tmp_path / "it", tmp_path / "changed"))
    with pytest.raises(BadInput, match=message) as caught:
        adapters.read(network(), tmp_path / "changed")
    assert "\n" not in str(caught.value)
