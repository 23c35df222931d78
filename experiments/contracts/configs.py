"""The contract of a config: claims on a component by its group and name."""

from __future__ import annotations

from experiments.contracts import require
from experiments.settings.catalog import config_file
from experiments.settings.components import load_module
from experiments.settings.entries import read_config


def its_config_has_its_name(group: str, name: str) -> None:
    written = read_config(group, name).name
    require(written == name, f"{config_file(group, name).name} says name: {written}, not {name}")


def its_config_shows_every_setting(group: str, name: str) -> None:
    shown = {*read_config(group, name).settings}
    fields = {*load_module(group, name).Settings.model_fields}
    require(shown >= fields, f"not shown: {', '.join(sorted(fields - shown))}")
    require(shown <= fields, f"no such setting: {', '.join(sorted(shown - fields))}")


def its_config_begins_with_a_line_that_says_what_it_is(group: str, name: str) -> None:
    first = config_file(group, name).read_text(encoding="utf-8").partition("\n")[0]
    require(
        first.startswith("# ") and len(first) > 2,
        f"the first line is {first[:60]!r}; write `# ` and a sentence, which `list` shows",
    )


CLAIMS = (
    its_config_has_its_name,
    its_config_shows_every_setting,
    its_config_begins_with_a_line_that_says_what_it_is,
)
