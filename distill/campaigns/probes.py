"""Quality probes: questions whose answers a campaign knows, asked again and again to notice whether
the provider answers it worse.
"""

from __future__ import annotations

import numpy as np

from distill.campaigns import apportion
from distill.campaigns.environment import Environment
from distill.campaigns.requests import Requests
from distill.campaigns.settings import Campaign


class Probes:
    """A few questions, through a few slots, in the place of as many of the day's exchanges.

    `templates`: one for each question, which it always has; `prompts` and `topics` likewise.

    Args:
        environment: where templates are taken from.
        settings: how many, how many different, and through how many accounts.
        row: of topic preferences that the questions are drawn from.
        rng: draws.
    """

    def __init__(
        self, environment: Environment, settings: Campaign, row: int, rng: np.random.Generator
    ) -> None:
        questions, through = settings.probe_set, settings.probe_accounts
        self.templates = environment.templates.take(questions)
        self.prompts = environment.prompts.take(questions)
        self.topics = environment.preferences.draw(np.full(questions, row), rng)
        self.daily = apportion(settings.probes, np.ones(through))

    def put(self, requests: Requests, rng: np.random.Generator) -> Requests:
        """The day's requests, the first ones of its slots replaced by probes; nobody wants their
        answers for a student.

        Args:
            requests: of a day, those of a slot next to each other.
            rng: draws.
        """
        slot = requests.slot
        through = np.flatnonzero(slot < len(self.daily))
        order = through[np.argsort(slot[through], kind="stable")]
        counts = np.bincount(slot[order], minlength=len(self.daily))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = order[rank < self.daily[slot[order]]]
        question = rng.integers(0, len(self.templates), len(rows))
        wording, wanted = requests.wording, requests.wanted.copy()
        topic, template = wording.topic.copy(), wording.template.copy()
        phrase, prompt = wording.phrase.copy(), wording.prompt.copy()
        topic[rows], template[rows] = self.topics[question], self.templates[question]
        phrase[rows], prompt[rows], wanted[rows] = False, self.prompts[question], False
        changed = wording._replace(topic=topic, template=template, phrase=phrase, prompt=prompt)
        return requests._replace(wording=changed, wanted=wanted)
