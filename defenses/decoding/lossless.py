"""Lossless sampling: every account draws from the teacher's own distribution, but accounts draw the
same numbers.

seed = PRF(key; seed, bucket of the prompt, how often this account was in that bucket before), and
all randomness of an answer comes from it (LADS, Diao et al. 2026, 2605.18829). To one account its
draws are independent and undefended; two accounts that ask similar things get answers that are
coupled, so a campaign's pooled data is less diverse than its size. An account that works alone is
not affected, and neither is who words the same question in another way. The paper buckets by
meaning and has released no code; here a bucket is a SimHash (Charikar 2002) of hashed character
n-grams, so that nothing but the text is needed: each bit differs with probability angle / pi.
Visits are counted within one call, in order of asking; a prompt without account is an account of
its own, so always a first visit.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from defenses import (
    BaseDefense,
    DefenseSettings,
    SecretKey,
    Strength,
    Traits,
    require_language_model,
)
from distill.completions import BadInput, Prompt
from distill.models import Model


def pseudorandom(key: str, *parts: object) -> bytes:
    """PRF(key; parts): HMAC-SHA256 of the parts, 32 bytes; only the last part may hold a slash.

    Args:
        key: of the provider.
        *parts: what the bytes are for; their texts count.
    """
    return hmac.digest(key.encode(), "/".join(map(str, parts)).encode(), "sha256")


def bucket(text: str, bits: int, ngram: int, key: str) -> str:
    """SimHash of a text's character n-grams (case and spacing aside), up to 256 bits, as a string
    of 0 and 1.

    Bit i is whether the sum over the text's n-grams of a keyed sign is at least 0.

    Args:
        text: any.
        bits: of the hash.
        ngram: characters.
        key: the provider's secret.
    """
    plain = " ".join(text.lower().split())
    grams = [plain[start : start + ngram] for start in range(max(1, len(plain) - ngram + 1))]
    hashes = np.frombuffer(b"".join(pseudorandom(key, "gram", gram) for gram in grams), np.uint8)
    ones_256 = np.unpackbits(hashes.reshape(len(grams), -1), axis=1).sum(0)
    return "".join(map(str, (2 * ones_256[:bits] >= len(grams)).astype(int)))


def shared_randomness(
    prompts: Sequence[Prompt], seed: int, bits: int, ngram: int, key: str
) -> list[str]:
    """A key a prompt: a function of (key, seed, bucket, how often the prompt's account was in that
    bucket before).

    Args:
        prompts: in the order in which they came.
        seed: of the sampling.
        bits: of the hash.
        ngram: characters.
        key: the provider's secret.
    """
    visits, keys = Counter[tuple[str, str]](), []
    for prompt in prompts:
        place = bucket(prompt.text, bits, ngram, key)
        keys.append(pseudorandom(key, "visit", seed, place, visits[prompt.account, place]).hex())
        visits[prompt.account, place] += bool(prompt.account)
    return keys


class Settings(DefenseSettings):
    """`bits`: sign bits of a bucket (None: no defence; fewer bits are fewer, larger buckets, 0 is
    one for all prompts); `ngram`: characters of an n-gram; `key`: the provider's.
    """

    bits: int | None = Field(4, ge=0, le=256)
    ngram: int = Field(3, ge=1, le=1000)
    key: SecretKey = "lossless"


class Defense(BaseDefense):
    """Couples the randomness of different accounts, and leaves the distribution of
    each as it is.
    """

    settings: Settings
    traits = Traits(
        acts_on="decoding",
        identity={"bits": None},
        strength=Strength("bits", None, 16, 0),
        requires_logits=True,
        requires_sampling=True,
        keeps_argmax=True,
        keeps_answer=True,
        paper="Diao et al. 2026, 2605.18829",
    )

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, "decoding/lossless")
        bits, ngram, key = self.settings.bits, self.settings.ngram, self.settings.key
        if bits is None:
            return scored
        if scored.temperature == 0:
            raise BadInput(
                "defense decoding/lossless: the teacher decodes greedily (temperature 0), so "
                "there is no "
                "randomness to share; put decoding/temperature before it"
            )
        return replace(
            scored,
            randomness=lambda prompts, seed: shared_randomness(prompts, seed, bits, ngram, key),
        )
