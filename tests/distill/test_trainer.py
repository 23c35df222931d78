import random

import pytest
import torch

from defenses.trained import tune
from distill.attackers import logprob_kd, sft
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import Example, imitation
from distill.specs import TrainingConfig
from distill.trainer import MATRICES, batches, optimizers, rate, train, warmup_steps

TOKENIZER = character_tokenizer("0123456789+=# ")
RECIPE = TrainingConfig(max_length=32, steps=60, batch_size=8)
SAID = [Completion(str(i), f"{i}+{i}=", f"{2 * i} # {2 * i}") for i in range(16)]


def network(seed=0):
    return llama(TOKENIZER, hidden_size=32, num_layers=1, num_heads=2, max_length=32, seed=seed)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def fitted(recipe=RECIPE, **options):
    examples = [sft.example(answer, TOKENIZER, 64) for answer in SAID]
    return train(network(), examples, recipe, seed=0, **options)


def test_it_memorises_sixteen_answers():
    result = sft.Attacker(sft.Settings()).train(
        SAID, LanguageModel(network(), TOKENIZER), RECIPE.model_copy(update={"steps": 250}), seed=0
    )
    assert result.losses[-1] < 0.2 * result.losses[0]
    student = LanguageModel(result.network.eval(), TOKENIZER, max_new_tokens=12)
    answers = student.generate(
        [Prompt(a.prompt_id, a.prompt) for a in SAID], seed=0, interface=Interface()
    )
    assert sum(a.text == b.text for a, b in zip(answers, SAID, strict=True)) >= 14


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_seed_gives_the_same_weights(optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer})
    assert torch.equal(weights(fitted(recipe).network), weights(fitted(recipe).network))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, optimizer):
    path, recipe = tmp_path / "checkpoint", RECIPE.model_copy(update={"optimizer": optimizer})

    def stop(step, loss):
        if step == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(recipe, checkpoint=path, checkpoint_every=20, log=stop)
    resumed, whole = fitted(recipe, checkpoint=path, checkpoint_every=20), fitted(recipe)
    lines = path.with_suffix(".losses").read_text().splitlines()
    live = dict(map(float, line.split()) for line in lines)
    assert live == {20.0 * (i + 1): loss for i, loss in enumerate(whole.losses)}
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert (resumed.steps, resumed.tokens, resumed.losses) == (
        whole.steps,
        whole.tokens,
        whole.losses,
    )


def test_muon_has_the_matrices_and_adamw_the_tables_and_the_rest():
    net = network()
    adamw, muon = optimizers(net, RECIPE.model_copy(update={"optimizer": "muon"}))
    with_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in with_muon}
    ends = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert (
        names == {name for name, _ in net.named_parameters() if name.split(".")[-2] in ends}
        and len(names) == 7
    )
    assert sum(len(g["params"]) for o in (adamw, muon) for g in o.param_groups) == len(
        [*net.parameters()]
    )
    assert [type(one) for one in optimizers(net, RECIPE)] == [torch.optim.AdamW]


def test_muon_learns_and_its_rate_is_a_share():
    slow = fitted(RECIPE.model_copy(update={"optimizer": "muon", "learning_rate": 1e-9}))
    fast = fitted(RECIPE.model_copy(update={"optimizer": "muon"}))
    assert torch.allclose(weights(slow.network), weights(network()), atol=1e-6)
    assert fast.losses[-1] < 0.5 * slow.losses[-1]
    # The first step of a square matrix: what singular values its gradient has are near MATRICES x
    # the learning rate.
    stepped = fitted(RECIPE.model_copy(update={"optimizer": "muon", "steps": 1}))
    moved = (
        stepped.network.model.layers[0].self_attn.v_proj.weight
        - network().model.layers[0].self_attn.v_proj.weight
    )
    sizes = torch.linalg.svdvals(moved.detach()) / (MATRICES * RECIPE.learning_rate)
    assert 0.9 < float(sizes.max()) < 1.3


def test_what_was_done_is_counted():
    result = fitted(RECIPE.model_copy(update={"steps": 7}))
    assert (result.steps, result.examples, result.cut) == (7, 16, 0)
    short = [sft.example(answer, TOKENIZER, 10) for answer in SAID]
    cut = sum(len(a.prompt) + len(a.text) + 1 > 10 for a in SAID)
    assert (
        0 < cut < 16
        and train(network(), short, RECIPE.model_copy(update={"steps": 1}), seed=0).cut == cut
    )
    diverging = fitted(RECIPE.model_copy(update={"learning_rate": 1e6, "steps": 200}))
    assert diverging.steps == 20 and fitted(RECIPE.model_copy(update={"steps": 0})).steps == 0


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"x" * 100)
    with pytest.warns(UserWarning, match="damaged"):
        again = fitted(checkpoint=path)
    assert torch.equal(weights(again.network), weights(fitted().network))


def test_a_diverged_student_is_an_outcome():
    result = fitted(RECIPE.model_copy(update={"learning_rate": 1e6, "steps": 200}))
    assert result.diverged


@pytest.mark.parametrize(
    ("means", "steps"),
    [
        ([0.001, 0.004, 0.006, 0.005], 80),  # it was trained before, and goes on
        ([0.001, 0.9, 1.4, 1.7], 80),
        ([3.0, 8.0, 8.9, 8.0], 80),
        ([3.0, 9.1, 9.2, 1.0], 60),
        ([0.001, 1.6, 1.7, 0.1], 60),
        ([-0.2, 5.0, 5.0, 5.0], 80),  # no likelihood
    ],
)
def test_what_was_trained_before_has_not_diverged_by_a_thousandth(means, steps):
    values = iter([mean for mean in means for _ in range(20)])

    def scripted(student, rows, pad, device):
        return 0 * next(student.parameters()).sum() + next(values)

    result = fitted(RECIPE.model_copy(update={"steps": 80}), loss=scripted)
    assert (result.steps, result.diverged) == (steps, steps < 80)


def test_divergence_training_pulls_the_student_to_the_teacher():
    teacher = LanguageModel(
        fitted(RECIPE.model_copy(update={"steps": 250})).network.eval(),
        TOKENIZER,
        max_new_tokens=12,
    )
    prompts = [Prompt(a.prompt_id, a.prompt) for a in SAID]
    answers = teacher.generate(prompts, seed=0, interface=Interface("top_k", 5))
    attacker = logprob_kd.Attacker(logprob_kd.Settings())
    result = attacker.train(answers, LanguageModel(network(1), TOKENIZER), RECIPE, seed=0)
    assert result.losses[-1] < 0.5 * result.losses[0]


def test_divergence_training_needs_logprobs():
    with pytest.raises(BadInput, match="has no logprobs"):
        logprob_kd.Attacker(logprob_kd.Settings()).train(
            SAID, LanguageModel(network(), TOKENIZER), RECIPE, seed=0
        )


def test_an_example_that_does_not_fit_and_no_example_are_refused():
    with pytest.raises(BadInput, match="max_length is 32"):
        train(network(), [Example([3] * 30, [3] * 5)], RECIPE, seed=0)
    with pytest.raises(BadInput, match="no answer to learn"):
        train(network(), [], RECIPE, seed=0)


def test_every_epoch_holds_every_example_once():
    plan = batches([5, 3, 9, 1, 7], 2, seed=1)
    assert sorted(i for _ in range(3) for i in next(plan)) == list(range(5))


def test_the_rate_warms_up_and_ends_near_zero():
    warmup = warmup_steps(TrainingConfig(steps=100, warmup=0.1))
    # 10 warm-up steps: 1/10 after the first, 1 at the tenth; then 90 steps to 0, half of them to
    # 1/2
    assert warmup == 10
    assert [rate(step, 100, warmup) for step in (0, 9, 55, 100)] == [0.1, 1.0, 0.5, 0.0]


def test_a_student_and_a_defence_are_trained_as_a_loop_by_hand_trains_them():
    """Bit for bit: the peak, the warm-up, the clipping, the order of all that is in a step."""
    config = RECIPE.model_copy(update={"steps": 25, "clip": 0.5, "weight_decay": 0.1})
    rows = [sft.example(answer, TOKENIZER, 64) for answer in SAID]
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]

    def by_hand(next_rows, steps, warmup, **options):
        net = network().train()
        optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.98), **options)
        for step in range(steps):
            value = imitation(net, next_rows(), 0, torch.device("cpu"))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            falling = 1 - (step - warmup) / (steps - warmup)
            share = (step + 1) / warmup if step < warmup else falling
            optimizer.param_groups[0]["lr"] = config.learning_rate * share
            optimizer.step()
        return weights(net)

    order = batches(lengths, config.batch_size, 0)
    student = by_hand(
        lambda: [rows[i] for i in next(order)], 25, 1, weight_decay=0.1, fused=True, lr=1.0
    )
    assert torch.equal(weights(train(network(), rows, config, seed=0).network), student)

    rng, net = random.Random(0), network().train()
    defence = by_hand(lambda: rng.sample(rows, 4), 25, 2, weight_decay=0.0, lr=1.0)
    tune(
        net.parameters(),
        lambda batch: imitation(net, batch, 0, torch.device("cpu")),
        rows,
        steps=25,
        learning_rate=config.learning_rate,
        batch_size=4,
        clip=0.5,
    )
    assert torch.equal(weights(net), defence)


def test_answers_of_which_nothing_is_left_teach_nothing():
    before = weights(network())
    result = train(network(), [Example([3, 4], [])], RECIPE, seed=0)
    assert torch.equal(weights(result.network), before) and not result.losses


def test_an_answer_that_does_not_fit_is_cut_and_teaches_no_end():
    whole = sft.example(SAID[0], TOKENIZER, 64)
    size = len(whole.prompt_ids) + len(whole.answer_ids)
    cut = sft.example(SAID[0], TOKENIZER, size - 2)
    assert cut == Example(whole.prompt_ids, whole.answer_ids[:-2], cut=True) and not whole.cut
    assert TOKENIZER.eos_token_id not in cut.answer_ids
    assert sft.example(SAID[0], TOKENIZER, 1).answer_ids == []


def test_weights_that_the_last_step_breaks_are_divergence():
    broken = fitted(RECIPE.model_copy(update={"steps": 1, "learning_rate": 1e39}))
    assert broken.diverged and all(loss < 100 for loss in broken.losses)


def test_one_that_had_nothing_to_learn_from_took_no_step():
    silent = train(network(), [Example([3, 4], [])] * 3, RECIPE, seed=0)
    assert (silent.steps, silent.tokens, silent.examples) == (0, 0, 3)
