"""What follows training: pruning and rounding against torch, rewards by hand, and what is learned from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune as oracle

from distill.answers import Answer, Profile, Prompt
from distill.attackers import Own
from distill.attackers.follow import (
    clean_sft,
    copied,
    expert_iteration,
    grpo,
    joined,
    prune,
    quantise,
    questions,
    sampled,
    tuned,
)
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.student import StudentSettings, Trained

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = StudentSettings(hidden_size=16, num_layers=1, num_heads=2, max_length=32, steps=30, batch_size=8)
SUMS = {f"{a}+{b}=": str(a + b) for a in range(3) for b in range(3)}
PUBLIC = [Answer(f"p{i}", prompt, f" # {total}") for i, (prompt, total) in enumerate(SUMS.items())]
OWN = Own(
    public=PUBLIC, worked=PUBLIC[:4], final=lambda text: text.rpartition("# ")[2] or None,
    check=lambda answer: answer.text.rpartition("# ")[2] == SUMS[answer.prompt],
)  # fmt: skip


def model(seed=0):
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=6)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def matrices(network):
    return [p.detach() for p in network.parameters() if p.dim() == 2]


class TestQuantise:
    def test_by_hand(self):
        # 2 bits: -1, 0 and 1 steps, the step is the row's largest magnitude; halves go to even.
        rows = torch.tensor([[1.0, -0.4, 0.6], [0.0, 0.0, 0.0]])
        assert quantise.quantised(rows, 2).tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]

    @given(st.integers(2, 8), st.integers(0, 1000))
    def test_an_entry_moves_by_at_most_half_a_step_and_a_row_has_few_values(self, bits, seed):
        rows = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))
        out = quantise.quantised(rows, bits)
        step = rows.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert ((out - rows).abs() <= step / 2 + 1e-6).all()
        assert all(len(row.unique()) <= 2**bits - 1 for row in out)
        assert torch.allclose(quantise.quantised(out, bits), out, atol=1e-6)

    def test_torchs_fake_quantisation_is_the_same(self):
        rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
        scale = rows.abs().amax(-1) / 7
        want = torch.fake_quantize_per_channel_affine(rows, scale, torch.zeros(5, dtype=torch.int32), 0, -7, 7)
        assert torch.allclose(quantise.quantised(rows, 4), want, atol=1e-6)

    def test_matrices_are_rounded_and_norms_stay(self):
        out = quantise.Attacker(quantise.Settings(bits=3)).follow(model(), RECIPE, OWN, seed=0).network
        assert all(len(row.unique()) <= 7 for matrix in matrices(out) for row in matrix)
        norms = [[p for p in network.parameters() if p.dim() == 1] for network in (out, model().network)]
        assert norms[0] and all(torch.equal(a, b) for a, b in zip(*norms, strict=True))


class TestPrune:
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
    def test_torchs_own_pruning_is_the_same(self, share):
        layer = torch.nn.Linear(7, 11, bias=False)
        want = layer.weight.detach().clone()
        oracle.l1_unstructured(layer, "weight", amount=round(share * want.numel()))
        assert torch.equal(prune.pruned(want, share), layer.weight.detach())

    def test_every_matrix_loses_its_share(self):
        out = prune.Attacker(prune.Settings(share=0.5)).follow(model(), RECIPE, OWN, seed=0).network
        assert all(abs(float((m == 0).float().mean()) - 0.5) < 0.01 for m in matrices(out))


class TestRewards:
    def test_advantages_by_hand(self):
        # Mean 1/4, variance 3/16: the right one is sqrt 3 ahead, the others 1/sqrt 3 behind.
        found = grpo.advantages(np.array([[1.0, 0, 0, 0], [1, 1, 1, 1]]))
        assert found[0] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3]) and (found[1] == 0).all()

    def test_right_answers_become_likelier_and_wrong_ones_less(self, monkeypatch):
        right, wrong = replace(PUBLIC[0]), replace(PUBLIC[0], text=" # 7")
        monkeypatch.setattr(grpo, "questions", lambda own: PUBLIC[:1])
        monkeypatch.setattr(grpo, "sampled", lambda *args: [right, wrong])
        before = model()
        one = grpo.Attacker(grpo.Settings(rounds=3, samples=2, rate=0.2))
        after = replace(before, network=one.follow(before, RECIPE, OWN, seed=0).network.eval())
        prompts, texts = [Prompt("a", right.prompt)] * 2, [right.text, wrong.text]
        gained = np.subtract(before.surprisal(prompts, texts), after.surprisal(prompts, texts))
        assert gained[0] > 0.05 and gained[1] < -0.05

    def test_groups_that_agree_teach_nothing(self, monkeypatch):
        monkeypatch.setattr(grpo, "sampled", lambda model, asked, k, *_: [one for one in asked for _ in range(k)])
        done = grpo.Attacker(grpo.Settings()).follow(model(), RECIPE, OWN, seed=0)
        assert torch.equal(weights(done.network), weights(model().network)) and done.positions == 0


class TestExpertIteration:
    def test_only_right_answers_and_worked_solutions_are_learned_from_each_once(self, monkeypatch):
        seen = []

        def noted(here, said, *args):
            seen.append(said)
            return Trained(here.network, positions=5)

        def drawn(here, asked, k, *args):
            return [replace(one, text=text) for one in asked for text in (one.text, one.text, " # 99")]

        monkeypatch.setattr(expert_iteration, "tuned", noted)
        monkeypatch.setattr(expert_iteration, "sampled", drawn)
        done = expert_iteration.Attacker(expert_iteration.Settings(rounds=2, samples=3)).follow(
            model(), RECIPE, OWN, seed=0
        )
        assert len(seen) == 2 and done.positions == 10
        assert sorted((one.prompt, one.text) for one in seen[0]) == sorted((one.prompt, one.text) for one in PUBLIC)

    def test_a_round_with_nothing_right_ends_it(self, monkeypatch):
        monkeypatch.setattr(expert_iteration, "tuned", lambda *args: pytest.fail("there is nothing to learn"))
        own = replace(OWN, worked=[], check=lambda answer: False)
        done = expert_iteration.Attacker(expert_iteration.Settings()).follow(model(), RECIPE, own, seed=0)
        assert torch.equal(weights(done.network), weights(model().network))


def test_clean_data_alone_are_learned_from(monkeypatch):
    seen = []
    monkeypatch.setattr(clean_sft, "tuned", lambda here, said, *args: seen.append(said) or Trained(here.network))
    clean_sft.Attacker(clean_sft.Settings()).follow(model(), RECIPE, OWN, seed=0)
    assert seen == [OWN.worked]


class TestShared:
    def test_samples_of_a_question_stand_together_and_differ(self):
        held = sampled(model(), PUBLIC[:2], 3, 2.0, seed=0)
        assert [one.prompt for one in held] == [PUBLIC[0].prompt] * 3 + [PUBLIC[1].prompt] * 3
        assert len({one.text for one in held[:3]}) > 1 and held == sampled(model(), PUBLIC[:2], 3, 2.0, seed=0)

    def test_tuning_changes_the_copy_alone(self):
        before = model()
        here = copied(before)
        done = tuned(here, PUBLIC, RECIPE, 0, 20, 0.5)
        assert torch.equal(weights(before.network), weights(model().network))
        assert not torch.equal(weights(done.network), weights(before.network)) and len(done.losses) == 1

    def test_trainings_in_a_row_are_one(self):
        whole = joined([Trained(1, [1.0], False, 2, 3, 4), Trained(2, [2.0], True, 5, 6, 7)])
        assert vars(whole) == {"network": 2, "losses": [1.0, 2.0], "diverged": True, "tokens": 7, "positions": 9,
                               "asked": 11}  # fmt: skip

    def test_questions_are_asked_once(self):
        assert [one.prompt for one in questions(OWN)] == list(SUMS)

    def test_a_greedy_student_stays_greedy_after_sampling(self):
        before = model()
        sampled(before, PUBLIC, 1, 1.0, seed=0)
        assert before.temperature == 0
        asked = [Prompt("a", "1+1=")]
        assert before.answer(asked, seed=0, profile=Profile()) == model().answer(asked, seed=1, profile=Profile())
