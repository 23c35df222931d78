"""Batches, gradients and tuning, for tied and untied networks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from defenses import ProviderResources
from defenses.trained import (
    Row,
    answer_logits,
    changed,
    fixed_logits,
    gradient,
    head,
    learned,
    learner,
    loss,
    rows,
    tune,
    untie,
)
from defenses.trained.nasty import Defense, Settings
from distill.completions import BadInput, Completion, Interface
from distill.folders import load, save

BATCH = [Row([3, 4, 5], [6, 1]), Row([7], [8, 9, 10, 11]), Row([5, 5, 5, 5], [1])]


def gpt2(tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(params=["tied llama", "untied llama", "gpt2"])
def model(request, teacher):
    if request.param == "gpt2":
        return replace(teacher, network=gpt2(teacher.tokenizer))
    network = copy.deepcopy(teacher.network)
    if request.param == "untied llama":
        untie(network)
    return replace(teacher, network=network)


def state(network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def by_hand(network, batch, dtype=torch.float64) -> list[torch.Tensor]:
    """Scores at the positions before each answer token, one row at a time, without padding."""
    twin = copy.deepcopy(network).to(dtype)
    return [
        twin(input_ids=torch.tensor([row.prompt_ids + row.answer_ids])).logits[
            0, len(row.prompt_ids) - 1 : -1
        ]
        for row in batch
    ]


class TestRows:
    def test_by_hand(
        self, teacher
    ):  # <pad> <end> <unk> and the alphabet in order: ' ' is 3, '#' 4, '+' 5, '0' 6
        answers = [
            Completion("a", "1+1=", "2", (8,)),
            Completion("b", "1+1=", "2", finished=False),  # its text is all there is
            Completion("c", "1+1=", ""),
            Completion("d", "1+1=", "", finished=False),  # nothing is left of it
        ]
        prompt = [7, 5, 7, 16]
        assert rows(teacher, answers) == [Row(prompt, [8, 1]), Row(prompt, [8]), Row(prompt, [1])]

    def test_prompts_go_through_the_chat_template(self, teacher):
        tokenizer = copy.deepcopy(teacher.tokenizer)
        tokenizer.chat_template = (
            "#{{ messages[0]['content'] }}{% if add_generation_prompt %}={% endif %}"
        )
        assert rows(replace(teacher, tokenizer=tokenizer), [Completion("a", "1", "2", (8,))]) == [
            Row([4, 7, 16], [8, 1])
        ]


class TestLogits:
    def test_a_ragged_batch_is_its_rows_one_by_one(self, model):
        scores_NV, targets_N = answer_logits(model.network, BATCH)
        assert targets_N.tolist() == [6, 1, 8, 9, 10, 11, 1]
        torch.testing.assert_close(
            scores_NV.double(), torch.cat(by_hand(model.network, BATCH)), rtol=0, atol=1e-4
        )

    def test_the_loss_is_a_mean_over_answer_tokens_and_not_over_rows(self, model):
        nats = functional.cross_entropy(
            torch.cat(by_hand(model.network, BATCH)), torch.tensor([6, 1, 8, 9, 10, 11, 1])
        )
        assert float(loss(model.network, BATCH).detach()) == pytest.approx(
            float(nats.detach()), abs=1e-4
        )

    def test_fixed_scores_have_no_gradient_and_may_enter_one(self, model):
        scores_NV = fixed_logits(model.network, BATCH)
        assert not scores_NV.requires_grad and not scores_NV.is_inference()


def test_the_gradient_of_a_mean_over_traces_weighs_short_ones_as_long_ones(model):
    """As the released antidistillation code has it."""
    assert len({len(row.answer_ids) for row in BATCH}) > 1
    each = [gradient(model.network, [row]) for row in BATCH]
    whole = gradient(model.network, BATCH, batch_size=2, mean="trace")
    for name, got in whole.items():
        mean = torch.stack([one[name] for one in each]).mean(0)
        torch.testing.assert_close(got, mean, rtol=1e-4, atol=1e-6)
    tokens = gradient(model.network, BATCH, batch_size=2)
    assert any(not torch.allclose(whole[name], tokens[name], rtol=1e-2) for name in whole)


@pytest.mark.parametrize("inference", [False, True])
def test_the_gradient_is_that_of_a_plain_loop_and_leaves_the_network_as_it_was(model, inference):
    before = state(model.network)
    with torch.inference_mode(inference):
        grads = gradient(model.network, BATCH, batch_size=2)
    twin = copy.deepcopy(model.network).double()
    nats = [
        functional.cross_entropy(
            twin(input_ids=torch.tensor([row.prompt_ids + row.answer_ids])).logits[
                0, len(row.prompt_ids) - 1 : -1
            ],
            torch.tensor(row.answer_ids),
            reduction="sum",
        )
        for row in BATCH
    ]
    (sum(nats) / 7).backward()
    wanted = {name: p.grad for name, p in twin.named_parameters()}
    assert set(grads) == set(wanted)
    for name, value in grads.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-3, atol=1e-4)
    assert all(p.grad is None for p in model.network.parameters())
    assert all(
        torch.equal(value, before[name]) for name, value in model.network.state_dict().items()
    )


class TestHead:
    def test_the_head_is_learned_alone_and_under_its_own_name(self, model):
        twin = learner(model.network, "head")
        assert list(learned(twin)) == [f"{head(model.network)}.weight"] == ["lm_head.weight"]
        assert twin.get_input_embeddings().weight.requires_grad is False
        torch.testing.assert_close(
            fixed_logits(twin, BATCH), fixed_logits(model.network, BATCH), rtol=0, atol=0
        )

    def test_a_changed_head_leaves_the_embedding_and_the_first_network_alone(self, model):
        before, doubled = state(model.network), model.network.get_output_embeddings().weight * 2
        tied, scores_NV = (
            model.network.config.tie_word_embeddings,
            fixed_logits(model.network, BATCH),
        )
        twin = changed(model.network, {"lm_head.weight": doubled.detach()})
        torch.testing.assert_close(fixed_logits(twin, BATCH), scores_NV * 2)
        assert torch.equal(
            twin.get_input_embeddings().weight, model.network.get_input_embeddings().weight
        )
        assert model.network.config.tie_word_embeddings is tied
        assert (model.network.lm_head.weight is model.network.get_input_embeddings().weight) is tied
        assert all(
            torch.equal(value, before[name]) for name, value in model.network.state_dict().items()
        )
        assert not any(p.requires_grad for p in twin.parameters())

    @pytest.mark.parametrize(
        "way", ["deepcopy", "changed again", "tie_weights", "saved and loaded"]
    )
    def test_a_head_of_its_own_stays_so(self, model, way, tmp_path):
        doubled = (model.network.get_output_embeddings().weight * 2).detach()
        twin = changed(model.network, {"lm_head.weight": doubled})
        if way == "deepcopy":
            twin = copy.deepcopy(twin)
        elif way == "changed again":
            twin = changed(twin, {})
        elif way == "tie_weights":
            twin.tie_weights()
        else:
            save(replace(model, network=twin), tmp_path / "it")
            twin = load(str(tmp_path / "it")).network
        assert torch.equal(twin.lm_head.weight, doubled)
        assert torch.equal(
            twin.get_input_embeddings().weight, model.network.get_input_embeddings().weight
        )

    def test_a_tied_network_stays_tied_where_the_head_is_not_named(self, teacher):
        twin = changed(
            teacher.network,
            {"model.embed_tokens.weight": teacher.network.model.embed_tokens.weight * 2},
        )
        assert twin.lm_head.weight is twin.model.embed_tokens.weight
        assert torch.equal(twin.lm_head.weight, teacher.network.lm_head.weight * 2)

    def test_what_is_no_parameter_is_said(self, teacher):
        with pytest.raises(BadInput, match="'model.nothing' is no parameter"):
            changed(teacher.network, {"model.nothing": torch.ones(2)})
        with pytest.raises(BadInput, match="'model.norm.weight'.*shape"):
            changed(teacher.network, {"model.norm.weight": torch.ones(1)})


class TestLearner:
    def test_the_last_block_is_learned_alone(self, model):
        names = list(learned(learner(model.network, "last_block")))
        start = (
            "transformer.h.1." if model.network.config.model_type == "gpt2" else "model.layers.1."
        )
        assert (
            set(names)
            == {name for name, _ in model.network.named_parameters() if name.startswith(start)}
            != set()
        )

    def test_all_is_every_parameter_in_float32(self, model):
        twin = learner(copy.deepcopy(model.network).bfloat16())
        weights = learned(twin)
        assert set(weights) == dict(model.network.named_parameters()).keys()
        assert {value.dtype for value in weights.values()} == {torch.float32}
        assert changed(copy.deepcopy(model.network).bfloat16(), weights).dtype == torch.bfloat16

    def test_what_is_learned_no_longer_changes_with_the_learner(self, model):
        twin = learner(model.network, "head")
        weights = learned(twin)
        with torch.no_grad():
            twin.get_output_embeddings().weight.zero_()
        assert weights["lm_head.weight"].abs().sum() > 0


class TestTune:
    def test_a_constant_gradient_moves_by_the_sum_of_the_rates(self):
        # AdamW's step is the rate itself; of 10 steps, one warms up: 1 + (9 + 8 + ... + 1) / 9 = 6
        # rates
        p = torch.zeros(1, requires_grad=True)
        losses = tune(
            [p],
            lambda batch: (p * batch[0]).sum(),
            [1.0],
            steps=10,
            learning_rate=0.1,
            batch_size=1,
        )
        assert float(p.detach()) == pytest.approx(-0.6, rel=1e-4) and losses[1] == pytest.approx(
            -0.1, rel=1e-4
        )

    def test_batches_are_of_distinct_rows_and_a_function_of_the_seed(self):
        def seen(seed):
            batches, p = [], torch.zeros(1, requires_grad=True)

            def objective(batch):
                batches.append(batch)
                return p.sum()

            tune([p], objective, range(10), steps=5, learning_rate=0.1, batch_size=4, seed=seed)
            return batches

        assert seen(0) == seen(0) != seen(1)
        assert all(len(set(batch)) == 4 for batch in seen(0))

    def test_a_loss_goes_down_also_in_inference_mode(self, teacher):
        twin = learner(teacher.network)
        with torch.inference_mode():
            losses = tune(
                twin.parameters(),
                lambda batch: loss(twin, batch),
                BATCH,
                steps=30,
                learning_rate=1e-2,
                batch_size=3,
            )
        assert losses[-1] < losses[0] / 2


class TestTuned:
    def test_off_it_is_the_model_itself_and_needs_nothing(self, teacher):
        defense = Defense(Settings(omega=0.0))
        traits = defense.traits
        assert (traits.learns, traits.needs, defense.learn(teacher)) == (False, (), {})
        assert defense(teacher) is teacher
        assert (Defense.traits.learns, Defense.traits.needs) == (True, ("traces",))

    def test_it_wants_to_have_learned(self, teacher, resources):
        with pytest.raises(BadInput, match="trained/nasty: has learned nothing"):
            Defense(Settings(), resources)(teacher)
        with pytest.raises(BadInput, match="trained/nasty: needs clean traces"):
            Defense(Settings(), ProviderResources()).learn(teacher)

    def test_the_same_is_learned_twice_and_answers_follow(self, teacher, resources, prompts):
        settings = Settings(steps=3)
        first, again = (Defense(settings, resources).learn(teacher) for _ in range(2))
        assert all(torch.equal(first[name], value) for name, value in again.items())
        answers = [
            Defense(settings, replace(resources, learned=one))(teacher).generate(
                prompts, seed=0, interface=Interface()
            )
            for one in (first, again)
        ]
        assert answers[0] == answers[1]
