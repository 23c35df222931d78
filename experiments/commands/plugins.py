"""The command that checks other people's components: check-plugin."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distill.completions import BadInput
from experiments.contracts import Result
from experiments.contracts.check import check
from experiments.results.plain import Plain
from experiments.settings.catalog import chosen_folders, plugins, use_plugins


def check_plugin(*, folder: Path) -> None:
    """Print each claim on each plugin of a folder, and whether it is kept.

    Raises:
        BadInput: a claim is not kept, or a plugin cannot be used.
    """
    use_plugins([*chosen_folders(), folder])
    console = Plain()
    broken = passed = 0
    for plugin in plugins():
        if not plugin.file.is_relative_to(folder.resolve()):
            continue
        console.print(f"{plugin.group}/{plugin.name}")
        for claim, results in _by_claim(check(plugin)).items():
            failed = [failure for failure in results if failure.reason]
            word = "failed" if failed else "ok"
            console.print(f"  {word:<7}{claim}", soft_wrap=True)
            for failure in failed[:1]:
                console.print(f"         {failure.subject}: {failure.reason}", soft_wrap=True)
            broken += bool(failed)
            passed += not failed
    if broken:
        raise BadInput(f"check-plugin {folder}: {broken} of {broken + passed} claims are not kept")
    console.print(f"{passed} claims, all kept")


def _by_claim(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each claim, in the order of the first."""
    claims: dict[str, list[Result]] = {}
    for result in results:
        claims.setdefault(result.claim, []).append(result)
    return claims
