"""manifest.json: what made a run's results, with the digests of its stages and files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from experiments.results.table import Count, Table
from experiments.settings.entries import StudyName

MANIFEST_SCHEMA: Literal[5] = 5

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Inside = Annotated[str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]
"""A file of a stage, never above it."""

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
WHY = (
    r"written before code was recorded|made by version \d+ of its kind, which is \d+ now"
    r"|made by other code: [\w.]+(, [\w.]+)*( and \d+ more)? changed|\w+ [\w.+]+ -> [\w.+]+"
    r"|made with \d+ thread\(s\), not \d+"
    r"|made of a result that was made again, or is to be"
)
Why = Annotated[
    str, Field(pattern=rf"^({WHY})(; ({WHY}))* \(\d+ [a-z_]+(, \d+ [a-z_]+)*\)$", max_length=2000)
]
"""Why results are old, as `provenance.reasons` has it."""

PluginName = Annotated[
    str, Field(pattern=r"^(defense|attacker|task|detector)/[\w/]+$", max_length=200)
]


EXAMS = ("evaluation", "plateau")
"""Kinds of stages that ask and grade."""


class Maker(Table):
    """What made results."""

    version: Count
    """Of the kind of stage."""
    code: dict[str, Address]
    """Digest by module."""
    libraries: dict[str, str]
    """Version by library."""
    threads: Annotated[int, Field(ge=1)]
    """A worker."""


class UnknownMaker(Table):
    """A maker that was not recorded."""


class StageRecord(Table):
    """A result: what it was made of and by, and its files."""

    kind: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    """Of the stage."""
    key: Address
    """Its address in the store."""
    settings: dict[str, JsonValue]
    """What it was asked to do."""
    inputs: dict[Address, Address | Literal[""]]
    """By key, a digest over its files; empty where it was not recorded."""
    files: Annotated[dict[Inside, Sha], Field(min_length=1)]
    """SHA-256 by name."""
    seconds: Seconds
    """Wall time."""
    cpu_seconds: Seconds
    """Of processors."""
    answer_seconds: Seconds | None = None
    """Of answering alone, of exams."""
    alike: Sha | None = None
    """Digest of work that is the same whatever the study."""
    copied: Address | None = None
    """Key of the result that it was copied from."""
    made_by: Count
    """Its place in the manifest's `made_by`."""

    @model_validator(mode="after")
    def _timed(self) -> StageRecord:
        if self.answer_seconds is None:
            return self
        if self.kind not in EXAMS:
            raise ValueError(f"a {self.kind} is no exam, and has no answer_seconds")
        if not self.copied and self.answer_seconds > self.seconds:
            raise ValueError("answer_seconds are more than all seconds")
        return self


class Code(Table):
    """The sources as they were."""

    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None
    """Of the checkout, where there is one."""
    sources_sha256: Sha
    """Over all modules."""


class Machine(Table):
    """What bitwise repetition depends on beside versions."""

    python: Annotated[str, Field(pattern=r"^[\w.+-]*$", max_length=40)]
    """Its version."""
    platform: Line
    """Operating system and processor."""
    cores: Annotated[int, Field(ge=1)] | None
    """Of the processor."""
    threads: Annotated[int, Field(ge=1)]
    """A worker."""
    cpu_capability: Line
    """The vector instructions that torch uses."""
    device: Line
    """Name of the accelerator, or `cpu`."""


class Manifest(Table):
    """Versions, code, machine, seeds by role, and each stage's digests and seconds."""

    schema_: Literal[5] = Field(alias="schema")
    """Version of this file."""
    study: StudyName
    """Its name."""
    fingerprint: Sha
    """Over the digests of all results."""
    config_sha256: Sha
    """Of the settings."""
    versions: dict[str, str]
    """Of the libraries that results may depend on."""
    lock: list[Annotated[str, Field(pattern=r"^[\w.-]+==[\w.!+-]+$")]]
    """Every installed package."""
    machine: Machine
    code: Code
    plugins: dict[PluginName, Sha]
    """SHA-256 of the components from outside that results were made with, by group and name."""
    seeds: dict[str, JsonValue]
    """By role."""
    made_by: list[Maker | UnknownMaker]
    """Each maker once."""
    stages: Annotated[list[StageRecord], Field(min_length=1)]
    missing: list[Address]
    """Planned stages that are not done."""
    old: list[Why]
    """What of the results other code made, in lines."""
    files: dict[str, Sha]
    """Of the run, by name."""

    @model_validator(mode="after")
    def _joined(self) -> Manifest:
        keys = [stage.key for stage in self.stages] + self.missing
        if len({*keys}) < len(keys):
            raise ValueError("a stage is named twice")
        packages = [line.partition("==")[0].lower() for line in self.lock]
        if len({*packages}) < len(packages):
            raise ValueError("lock names a package twice")
        if {stage.made_by for stage in self.stages} != {*range(len(self.made_by))}:
            raise ValueError("made_by is not what made the stages")
        if any(maker in self.made_by[:place] for place, maker in enumerate(self.made_by)):
            raise ValueError("made_by names a maker twice")
        return self

    @property
    def by_key(self) -> dict[str, StageRecord]:
        return {stage.key: stage for stage in self.stages}


class Seal(Table):
    """The hash of the frozen analysis, and how much had been scored before."""

    sha256: Sha
    """Of analysis.yaml."""
    scored_before: Count
    """Report exams that had been scored when it was frozen."""
    of: Count
    """Report exams that were planned."""

    @model_validator(mode="after")
    def _counted(self) -> Seal:
        if self.scored_before > self.of:
            raise ValueError(
                f"{self.scored_before} of {self.of} report exams cannot have been scored before"
            )
        return self
