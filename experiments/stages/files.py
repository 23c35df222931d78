"""What stages leave for others to read: each file has one model, which writes and reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from distill.completions import BadInput, write_bytes
from distill.served.request_options import Prompts, RequestOptions, Scoring
from distill.specs import PretrainedModel
from experiments.settings.components import ComponentSpec
from experiments.stages.stage import Sparse, canonical


class ResultFile(Sparse):
    """A JSON file in a result's folder."""

    FILE: ClassVar[str]

    def write(self, folder: Path) -> None:
        """Write it; the same values give the same bytes.

        Args:
            folder: of the result.
        """
        write_bytes(folder / self.FILE, canonical(self.model_dump(mode="json")).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it.

        Args:
            folder: of the result.

        Raises:
            BadInput: it is missing, or not what this code writes.
        """
        path = folder / cls.FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            why = " ".join(str(error).split())[:200]
            raise BadInput(f"{path}: not a whole {cls.FILE} ({why})") from error


class TrainedModel(Sparse):
    """Weights that lie in the same folder, of a network trained here; it answers greedily. With a
    `base` they are an adapter of it.
    """

    kind: Literal["trained"]
    max_new_tokens: int
    may_diverge: bool
    batch_size: int = 256
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    base: PretrainedModel | None = None


class AskedModel(Sparse):
    """Weights from elsewhere, and how it answers."""

    kind: Literal["pretrained"]
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    model: PretrainedModel


class RecordedModel(Sparse):
    """Completions that lie in the same folder; `scored_by` is the SHA-256 of the tokenizer that
    their logprobs are over, where that is known.
    """

    kind: Literal["recorded"]
    scored_by: str = ""


class ServedSpec(Sparse):
    """All that a served teacher's answers depend on. Where it is told by what stands for it
    (`private.connection`): the same model elsewhere is the same work.
    """

    kind: Literal["served"]
    url: str
    model: str
    revision: str
    prompts: Prompts
    tokenizer: str | None
    temperature: float
    top_p: float
    max_new_tokens: int
    logprobs: int
    token_ids: bool
    scoring: Scoring

    @property
    def options(self) -> RequestOptions:
        return RequestOptions(**self.model_dump(include={*RequestOptions.__dataclass_fields__}))


class ModelFile(ResultFile):
    """What the model in a folder is."""

    FILE = "model.json"
    model: Annotated[
        TrainedModel | AskedModel | RecordedModel | ServedSpec, Field(discriminator="kind")
    ]


class TrainingReport(ResultFile):
    """How the training of a student, or of a teacher by recipe, went.

    `losses`: means over `LOG_EVERY` steps, None where one was not finite. `positions`: that the
    network read; `tokens`: that carried loss. `cut`: the share of examples that did not fit.
    `asked`: exchanges while it learned, `unscored` of which were asked for a score and gave none.
    `no_final`: the share of its answers without a final one.
    `items`: what a teacher by recipe learned from. `trained`: of the parameters, where only an
    adapter's moved. `device`: of a pretrained model's training.
    """

    FILE = "training.json"
    losses: list[float | None]
    diverged: bool
    tokens: int
    positions: int
    parameters: int
    steps: int
    learning_rate: float
    cut: float
    asked: int = 0
    unscored: int = 0
    no_final: float | None = None
    items: int | None = None
    trained: int | None = None
    device: str | None = None


class Exchanges(ResultFile):
    """What was exchanged for the completions of a stage; tokens are None where they are not
    known.
    """

    FILE = "exchanges.json"
    exchanges: int
    tokens_in: int | None
    tokens_out: int | None


class FoundStrength(Sparse):
    """The strength at which the honest user loses about `points`: what was tried, and the loss at
    `value`.
    """

    knob: str
    value: int | float
    points: float
    loss: float
    tried: list[tuple[float, float]]


class PreparedDefense(ResultFile):
    """A defence made ready: its parts as they are used, its strength where it was sought, and
    single numbers that it learned.
    """

    FILE = "defense.json"
    defense: list[ComponentSpec]
    matched: FoundStrength | None
    numbers: dict[str, float]


class Trial(Sparse):
    """What a search's trial changes of the study's own recipe."""

    learning_rate: float | None = None
    steps: int | None = None

    @property
    def changes(self) -> dict[str, Any]:
        return self.model_dump()


class Choice(Trial, ResultFile):
    """The best trial of a search."""

    FILE = "choice.json"


class WorstAttack(ResultFile):
    """Which attack of its list a plateau's student is of."""

    FILE = "plateau.json"
    attack: int


class MarkLook(Sparse):
    """What a test said of the first draws: so many that were `scored`, after `repeats` were left
    out; without a p-value `note` says why.
    """

    scored: int
    repeats: int
    statistic: float | None
    expected: float | None
    log10_p: float | None
    note: str = ""


class MarkTest(Sparse):
    """A test of a mark: what it reads, and looks at ever more draws, all of them last."""

    mark: str
    test: str
    looks: list[MarkLook]


class MarkEvidence(ResultFile):
    """Whether a student carries marks. `tokens` are those of the answers that it learned from,
    `sold` of them stand in answers that stayed as they were sold; `vocabulary`: its tokens.
    """

    FILE = "marks.json"
    tokens: int
    sold: int
    vocabulary: int
    tests: list[MarkTest]
