"""The information estimate against loops, and what a learned transform does to traces that it has
not seen.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given as whatever
from hypothesis import strategies as st
from torch.nn import functional

from defenses import ProviderResources
from defenses.release.information import Defense, Settings, information, transform
from defenses.trained import answer_logits, rows
from defenses.trained.doge import bottleneck
from distill.completions import BadInput, Interface, Prompt

seeds = st.integers(0, 2**32 - 1)


def sampled(
    seed: int, positions: int = 24, size: int = 7, targets: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.normal(0, 3, (positions, size)))
    return torch.log_softmax(scores, -1), torch.tensor(rng.integers(0, targets, positions))


class TestInformation:
    @whatever(seeds)
    def test_equals_loops_over_targets_positions_and_tokens(self, seed):
        logprobs, targets = sampled(seed)
        p, total = logprobs.exp().tolist(), 0.0
        for y in set(targets.tolist()):
            same = [row for row, target in zip(p, targets.tolist(), strict=True) if target == y]
            mean = [sum(column) / len(same) for column in zip(*same, strict=True)]
            total += sum(a * np.log(a / b) for row in same for a, b in zip(row, mean, strict=True))
        assert information(logprobs, targets).item() == pytest.approx(total / len(p), abs=1e-12)

    def test_by_hand(self):
        # (1, 0) and (0, 1) behind one target: their mean is (1/2, 1/2), ln 2 from each. Two
        # targets: nothing is left.
        sure = torch.tensor([[0.0, -100.0], [-100.0, 0.0]], dtype=torch.float64)
        assert information(sure, torch.tensor([3, 3])).item() == pytest.approx(np.log(2))
        assert information(sure, torch.tensor([3, 5])).item() == 0

    @whatever(seeds)
    def test_what_is_computed_from_the_output_knows_no_more(self, seed):
        logprobs, targets = sampled(seed)
        channel = torch.tensor(np.random.default_rng(seed).dirichlet(np.full(5, 0.3), 7))
        after = information((logprobs.exp() @ channel).log(), targets).item()
        assert -1e-12 <= after <= information(logprobs, targets).item() + 1e-12

    def test_the_gradient_is_that_of_finite_differences(self):
        logits, targets = sampled(1)
        assert torch.autograd.gradcheck(
            lambda z: information(torch.log_softmax(z, -1), targets),
            logits[:, :4].clone().requires_grad_(),
        )


class TestTransformed:
    @pytest.mark.parametrize("rank", [0, 3])
    def test_before_it_learns_it_is_the_identity(self, rank):
        logprobs = sampled(0)[0].float()
        with torch.no_grad():
            torch.testing.assert_close(transform(logprobs, **bottleneck(7, rank)), logprobs)

    @whatever(seeds)
    def test_equals_the_matrix_and_does_not_see_a_constant(self, seed):
        rng, (logprobs, _) = np.random.default_rng(seed), sampled(seed)
        down, up = (torch.tensor(rng.normal(0, 0.3, shape)) for shape in ((2, 7), (7, 2)))
        scores = logprobs + torch.tensor(rng.normal(0, 9, (len(logprobs), 1)))
        matrix = torch.eye(7, dtype=torch.float64) + up @ down
        centred = scores - scores.mean(-1, keepdim=True)
        expected = torch.log_softmax(centred @ matrix.T, -1)
        for logits in (scores, logprobs):
            torch.testing.assert_close(transform(logits, down, up), expected, rtol=0, atol=1e-9)

    def test_takes_a_token_that_was_cut_off(self):
        cut = torch.tensor([[0.5, 0.5, 0.0]]).log()
        with torch.no_grad():
            assert transform(cut, torch.ones(1, 3), torch.ones(3, 1)).isfinite().all()


class TestDefense:
    @pytest.fixture
    def traces(self, teacher):
        prompts = [Prompt(f"own{i}", f"{i}+{i * 7 % 50}=") for i in range(192)]
        answers = teacher.generate(prompts, seed=1, interface=Interface())
        return answers[:128], answers[128:]

    @staticmethod
    def measured(model, traces, learned):
        """Cross-entropy and information of held-out traces, in nats."""
        with torch.no_grad():
            logits, targets = answer_logits(model.network, rows(model, traces))
            logprobs = transform(logits, **learned)
            return functional.nll_loss(logprobs, targets).item(), information(
                logprobs, targets
            ).item()

    def test_lowers_the_information_of_unseen_traces_at_little_cross_entropy(self, teacher, traces):
        seen, unseen = traces
        clean = self.measured(teacher, unseen, bottleneck(teacher.network.config.vocab_size, 0))
        results = []
        for lam in (1.0, 3.0):
            learned = Defense(Settings(lam=lam, steps=60), ProviderResources(traces=seen)).learn(
                teacher
            )
            results.append(self.measured(teacher, unseen, learned))
        assert clean[1] > 0.5 and results[0][1] < 0.7 * clean[1] and results[1][1] < 0.4 * clean[1]
        assert clean[0] < results[0][0] < clean[0] + 0.25 < results[1][0]  # nats, of 1.8

    def test_releases_what_it_learned_on_and_keeps_the_text(self, teacher, prompts, traces):
        defense = Defense(Settings(steps=20), ProviderResources(traces=traces[0]))
        learned = defense.learn(teacher)
        model = Defense(defense.settings, ProviderResources(learned=learned))(teacher)
        defended, clean = (
            m.generate(prompts, seed=0, interface=Interface("full")) for m in (model, teacher)
        )
        assert [a.token_ids for a in defended] == [a.token_ids for a in clean]
        with torch.no_grad():
            logits_NV, _ = answer_logits(teacher.network, rows(teacher, defended))
            expected = transform(logits_NV, **learned)
        shown = torch.cat(
            [
                torch.zeros(*a.logprobs.ids_TK.shape).scatter(
                    1, torch.tensor(a.logprobs.ids_TK).long(), torch.tensor(a.logprobs.values_TK)
                )
                for a in defended
            ]
        )
        torch.testing.assert_close(shown, expected, rtol=0, atol=1e-4)

    def test_needs_to_have_learned_unless_it_is_off(self, teacher):
        with pytest.raises(BadInput, match="release/information.*learn"):
            Defense(Settings())(teacher)
        off = Defense(Settings(lam=0))
        assert (
            off(teacher) is teacher
            and not off.traits.learns
            and off.traits.needs == ()
            and off.learn(teacher) == {}
        )

    def test_a_rank_above_the_vocabulary_is_any_matrix(self, teacher, traces):
        learned = Defense(
            Settings(rank=10**6, steps=2), ProviderResources(traces=traces[0][:8])
        ).learn(teacher)
        size = teacher.network.config.vocab_size
        assert {tuple(one.shape) for one in learned.values()} == {(size, size)}
