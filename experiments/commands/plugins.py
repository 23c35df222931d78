"""The command that checks other people's components: check-plugin."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from distill.completions import BadInput
from experiments.contracts import Result
from experiments.contracts.check import check
from experiments.results.plain import Plain
from experiments.settings.catalog import SYMBOLS, Plugin, chosen_folders, plugins, use_plugins


def check_plugin(*, where: str) -> None:
    """Print each claim on each plugin of a folder or of an installed package, and whether it is
    kept.

    Raises:
        BadInput: a claim is not kept, or a plugin cannot be used.
    """
    console = Plain()
    broken = passed = 0
    for plugin in _in_folder(Path(where)) if Path(where).is_dir() else _in_package(where):
        console.print(f"{plugin.group}/{plugin.name}")
        above: set[str] = set()  # one mistake breaks many claims
        for claim, results in _by_claim(check(plugin)).items():
            failed = [failure for failure in results if failure.reason]
            word = "failed" if failed else "ok"
            console.print(f"  {word:<7}{claim}", soft_wrap=True)
            for failure in failed[:1]:
                why = "as above" if failure.reason in above else failure.reason
                console.print(f"         {failure.subject}: {why}", soft_wrap=True)
                above.add(failure.reason)
            broken += bool(failed)
            passed += not failed
    if broken:
        raise BadInput(f"check-plugin {where}: {broken} of {broken + passed} claims are not kept")
    console.print(f"{passed} claims, all kept")


def _in_folder(folder: Path) -> list[Plugin]:
    use_plugins([*chosen_folders(), folder])
    return [plugin for plugin in plugins() if plugin.file.is_relative_to(folder.resolve())]


def _in_package(name: str) -> list[Plugin]:
    """The plugins that an installed package names as entry points."""
    packages = sorted({plugin.package for plugin in plugins()} - {""})
    there = f"packages with plugins: {', '.join(packages) or 'none'}"
    try:
        package = distribution(name).name
    except (PackageNotFoundError, ValueError):
        raise BadInput(
            f"plugins {name}: no such folder, and no installed package of that name ({there})"
        ) from None
    inside = [plugin for plugin in plugins() if plugin.package == package]
    if not inside:
        raise BadInput(
            f"plugins {name}: the package names no plugin as an entry point of "
            f"{', '.join(f'distill_resist.{group}s' for group in SYMBOLS)} ({there})"
        )
    return inside


def _by_claim(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each claim, in the order of the first."""
    claims: dict[str, list[Result]] = {}
    for result in results:
        claims.setdefault(result.claim, []).append(result)
    return claims
