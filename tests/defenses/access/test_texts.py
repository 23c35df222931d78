"""Where a provider reads texts: its buckets, and what detectors make of texts and buckets."""

import numpy as np
import pytest

from defenses.access import average, buckets, content, mmd, prada
from defenses.access.buckets import learn_buckets, nearest_bucket
from defenses.access.encoder import TextEncoder, unit
from distill.campaigns import CAPABILITIES, TOPICS, stream
from experiments.contracts.detectors import flat_baseline
from tests.defenses.access.days import events, table, watch

NAMES = list(CAPABILITIES)
RNG = stream(0, "texts")
CORNERS = unit(RNG.standard_normal((6, 8)))


def encoder(capability="writing", texts=60, learned=120):
    """Texts around six corners, each corner a bucket."""
    corner = np.arange(texts + learned) % 6
    x = unit(CORNERS[corner] + 0.05 * RNG.standard_normal((texts + learned, 8)))
    capability_K = np.full(TOPICS, NAMES.index(capability), np.uint8)
    return TextEncoder(x[:texts], corner[:texts], x[texts:], corner[texts:], capability_K)


def reading(**more):
    return flat_baseline()._replace(encoder=encoder(**more))


def day(read, text, number=0, account=None):
    text = np.asarray(text, np.uint32)
    account = np.zeros(len(text)) if account is None else account
    sent = events(account, number, topic=read.bucket_T[text])
    sent.text = text
    return sent


class TestBuckets:
    def test_far_groups_are_buckets_and_centres_their_means(self):
        group = np.repeat(np.arange(5), 40)
        rng = stream(1, "groups")
        x = 10 * np.eye(5)[group] + rng.standard_normal((200, 5))
        centres = learn_buckets(x, 5)
        bucket = nearest_bucket(x, centres)
        pairs = {*zip(group.tolist(), bucket.tolist(), strict=True)}
        assert len(pairs) == 5 == len({b for _, b in pairs})
        for g, b in pairs:
            assert centres[b] == pytest.approx(x[group == g].mean(axis=0))

    def test_the_same_bytes_twice_and_no_vector_nearer_to_another_centre(self):
        x = unit(stream(2, "x").standard_normal((300, 6)))
        centres = learn_buckets(x, 20)
        assert (centres == learn_buckets(x, 20)).all() and len(centres) == 20
        gaps = np.linalg.norm(x[:, None] - centres[None], axis=-1)
        assert (nearest_bucket(x, centres) == gaps.argmin(axis=1)).all()
        spread = gaps.min(axis=1) ** 2
        drawn = x[stream(3, "x").choice(300, 20, replace=False)]
        assert spread.sum() < (np.linalg.norm(x[:, None] - drawn, axis=-1).min(axis=1) ** 2).sum()

    def test_the_best_of_several_starts_is_kept(self, monkeypatch):
        x, apart = unit(stream(2, "x").standard_normal((300, 6))), []
        for starts in (1, 2, 4, 8, 16):
            monkeypatch.setattr(buckets, "STARTS", starts)
            gaps = np.linalg.norm(x[:, None] - learn_buckets(x, 20)[None], axis=-1)
            apart.append(float((gaps.min(axis=1) ** 2).sum()))
        assert apart == sorted(apart, reverse=True) and apart[0] > apart[-1]

    def test_there_are_no_more_than_different_vectors(self):
        assert len(learn_buckets(np.repeat(np.eye(3), 9, axis=0), 128)) == 3


class TestMmd:
    def test_it_is_the_naive_sum_over_texts_and_the_usual_is_the_buckets_mean(self):
        base, settings = reading(), mmd.Settings(window=50)
        rising = np.tile(np.arange(1.0, TOPICS + 1) ** -2, (len(base.topics_SK), 1))
        base = base._replace(topics_SK=rising / rising.sum(axis=1, keepdims=True))
        read, text = base.encoder, stream(4, "sent").integers(0, 60, 50)
        detector = mmd.Detector(settings, base)
        score = watch(detector, table(1), [day(read, text)])[0, 0]
        gaps = np.linalg.norm(read.learned_LE[:, None] - read.learned_LE[None], axis=-1)
        median = float(np.median(gaps[gaps > 1e-3]))
        phi = mmd.fourier(read.vectors_TE, settings.features, median)[text]
        learned = mmd.fourier(read.learned_LE, settings.features, median)
        means = [learned[read.learned_L == b].mean(axis=0) for b in range(6)]
        means += [learned.mean(axis=0)] * (TOPICS - 6)
        naive = mmd.mmd2(
            phi.sum(axis=0), (phi**2).sum(), np.array(50), base.topics_SK[0] @ np.array(means)
        )
        assert score == pytest.approx(50 * naive, rel=1e-3)

    def test_texts_of_one_bucket_are_told_apart(self):
        base = reading()
        in_bucket = np.flatnonzero(base.encoder.bucket_T == 2)
        same, many = np.full(50, in_bucket[0]), np.resize(in_bucket, 50)
        scores = [
            watch(mmd.Detector(mmd.Settings(window=50), base), table(1), [day(base.encoder, text)])
            for text in (same, many)
        ]
        assert scores[0] != scores[1]

    def test_accounts_apart_and_together_are_the_same(self, monkeypatch):
        base = reading()
        text = stream(5, "two").integers(0, 60, 120)
        account = np.repeat([0, 1], 60)
        both = watch(
            mmd.Detector(mmd.Settings(window=50), base),
            table(2),
            [day(base.encoder, text, account=account)],
        )[0]
        apart = [
            watch(mmd.Detector(mmd.Settings(window=50), base), table(1), [day(base.encoder, some)])
            for some in (text[:60], text[60:])
        ]
        assert both == pytest.approx(np.ravel(apart), rel=1e-5)


class TestWindows:
    def test_a_window_is_the_vectors_of_its_texts_in_their_order(self):
        base, text = reading(), stream(6, "window").integers(0, 60, 20)
        detector = prada.Detector(prada.Settings(window=12), base)
        scores = watch(
            detector, table(1), [day(base.encoder, text[:8]), day(base.encoder, text[8:], 1)]
        )
        expected = prada.departure(prada.nearest(base.encoder.vectors_TE[text[:12]]))
        assert scores[0, 0] == -np.inf and scores[1, 0] == pytest.approx(expected)

    def test_events_without_texts_are_no_silent_zero(self):
        base = reading()
        for detector in (
            prada.Detector(prada.Settings(window=12), base),
            mmd.Detector(mmd.Settings(window=12), base),
        ):
            with pytest.raises(AssertionError, match="shown texts"):
                watch(detector, table(1), [events(np.zeros(12))])


class TestContent:
    def test_it_watches_buckets_by_what_they_are_said_to_be_about(self):
        """Bucket 3 is guidance as a topic; said to be coding it counts."""
        coding = np.full(TOPICS, NAMES.index("writing"), np.uint8)
        coding[3] = NAMES.index("coding")
        base = reading()
        named = base._replace(encoder=base.encoder._replace(capability_K=coding))
        text = np.flatnonzero(base.encoder.bucket_T == 3)
        sent = day(base.encoder, text)
        built = [content.Detector(content.Settings(), each) for each in (base, named)]
        nothing, rise = (float(watch(one, table(1), [sent])[0, 0]) for one in built)
        assert abs(nothing) < 1e-9 < 1 < rise, "where nothing is watched, nothing is said"

    def test_average_counts_buckets(self):
        base = reading()
        text = stream(7, "average").integers(0, 60, 60)
        plain = day(base.encoder, text)
        scores = [
            watch(average.Detector(average.Settings(), b), table(1), [plain])
            for b in (base, flat_baseline())
        ]
        assert scores[0] == scores[1] and np.isfinite(scores[0]).all()
