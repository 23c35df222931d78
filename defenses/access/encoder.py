"""What a provider's encoder makes of prompts: unit vectors.

`Encoder` stands in for one: topics of one capability lie near each other, a prompt lies around its
topic's centre, prompts cut from one template lie close together. Geometry assumed. `TextEncoder`
holds what a real one made of recorded texts (`campaigns.texts` of a study).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from distill.campaigns import CAPABILITIES, CAPABILITY_OF, TOPICS, stream


class Encoder:
    """A stand-in for a prompt encoder.

    Args:
        seed: of the topics' centres.
        width: dimensions.
        spread: distance of a prompt from its topic's centre, before vectors are scaled to length 1.
        jitter: the same from its template's.
    """

    def __init__(
        self, seed: int = 0, width: int = 32, spread: float = 0.5, jitter: float = 0.1
    ) -> None:
        rng = stream(seed, "encoder")
        self.width, self.spread, self.jitter = width, spread, jitter
        family = rng.standard_normal((len(CAPABILITIES), width))[CAPABILITY_OF]
        self.centres_KE = unit(family + rng.standard_normal((TOPICS, width)))

    def embed(
        self, topic: np.ndarray, template: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Unit vectors of prompts.

        Args:
            topic: numbers `[...]`.
            template: ids `[...]` in the same shape; 0 is a text of its own.
            rng: of what differs between prompts of one topic or template.

        Returns:
            `[..., width]`.
        """
        shape = (*topic.shape, self.width)
        noise = rng.standard_normal(shape)
        ids, which = np.unique(template, return_inverse=True)
        template_centre = np.stack(
            [stream(int(one), "template").standard_normal(self.width) for one in ids]
        )[which]
        from_template = (template != 0)[..., None]
        away = np.where(
            from_template,
            self.spread * template_centre.reshape(shape) + self.jitter * noise,
            self.spread * noise,
        )
        return unit(self.centres_KE[topic] + away / np.sqrt(self.width))


class TextEncoder(NamedTuple):
    """What a provider's encoder makes of recorded texts; it knows nobody's topics.

    `vectors_TE`: unit vectors of T texts, by the numbers that events name them with. `bucket_T`:
    the bucket (one of K) that each falls in. `learned_LE`, `learned_L`: vectors and buckets of the
    texts that the buckets were learned from, none of which is sent. `capability_K`: what each
    bucket is about, as somebody says who has read the texts that it was learned from.
    """

    vectors_TE: np.ndarray
    bucket_T: np.ndarray
    learned_LE: np.ndarray
    learned_L: np.ndarray
    capability_K: np.ndarray


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors `[..., width]` of length 1 along the last axis.

    Args:
        x: `[..., width]`, none of them 0.
    """
    scaled: np.ndarray = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled
