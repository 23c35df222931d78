"""Temperature sets what it is told to and nothing else."""

from __future__ import annotations

from dataclasses import replace

from defenses.decoding import temperature


def test_temperature_sets_what_is_given_and_keeps_what_is_not(teacher):
    model = temperature.Defense(temperature.Settings(temperature=0.5))(replace(teacher, top_p=0.9))
    assert (model.temperature, model.top_p, teacher.temperature) == (0.5, 0.9, 1.0)
    model = temperature.Defense(temperature.Settings(temperature=0.0, top_p=0.8))(teacher)
    assert (model.temperature, model.top_p) == (0.0, 0.8)
