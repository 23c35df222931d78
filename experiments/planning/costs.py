"""Rough costs of stages on one core; they order the queue and are the estimate until something was
measured.
"""

from __future__ import annotations

from distill.completions import digest
from distill.rendering import completion_ids
from distill.specs import PretrainedModel, TinyModel
from experiments.planning.opened import open_model
from experiments.seeds import seed_for
from experiments.settings.catalog import cached
from experiments.settings.components import build
from experiments.stages.completions import (
    AskedSpec,
    CompletionsSpec,
    LeakedSpec,
    ReleasedSpec,
    SelfSpec,
    TracesSpec,
)
from experiments.stages.defense import PrepareSpec
from experiments.stages.evaluation import EvaluationSpec
from experiments.stages.mark_test import MarkTestSpec
from experiments.stages.plateau import PlateauSpec
from experiments.stages.post_training import PostTrainingSpec
from experiments.stages.stage import Stage, TaskSpec, canonical
from experiments.stages.student import StudentSpec
from experiments.stages.teacher import PretrainedTeacher, RecipeTeacher, ServedTeacher
from experiments.stages.texts import TextsSpec
from experiments.stages.training import FineTune, Shape
from experiments.stages.two_providers import TrafficSpec

Model = TinyModel | PretrainedModel | ServedTeacher
SECONDS = {  # of the embedded default
    "teacher": 45.0,
    "texts": 3.0,
    "calibration": 40.0,
    "defense": 30.0,
    "campaign": 8.0,
    "merged_campaign": 0.5,
    "completions": 1.5,
    "student": 6.0,
    "post_training": 6.0,
    "plateau": 14.0,
    "evaluation": 1.0,
    "search": 0.1,
    "mark_test": 2.0,
}
ASKS = (ReleasedSpec, SelfSpec, TracesSpec, AskedSpec, LeakedSpec)
ROWS = 20  # of a task, whose tokens are counted
FLOPS = 2.5e11
"""Of a pretrained network a second and core, in bfloat16 on a CPU that multiplies matrices in it:
measured with 135 M weights and rows of 57 tokens."""
# How often the work of reading a row's tokens once is done.
TRAINED, ANSWERED, EXAMINED = 3.0, 2.0, 4.0
READ_FOR_MARKS, TESTED = 5.0, 300  # a test of a student for a mark, and rows that it has
SERVED = 0.5
"""Seconds a row of a served teacher, to order the queue by: what a server takes is not known."""
READ, TASKS = 0.06, 100
"""Seconds in which a sentence encoder reads a text, and tasks that a recording has."""
TRIES = 9  # of a defence's strength, until the one with the right cost is found


def seconds(stage: Stage) -> float:
    """About how long a stage takes: simulations grow with honest accounts and days, pretrained
    models with their weights, rows and tokens.

    Args:
        stage: of any kind.
    """
    if isinstance(stage.spec, TrafficSpec):
        size = stage.spec.honest.accounts / 30_000 * stage.spec.days / 44
        return SECONDS[stage.kind] * size
    if isinstance(stage.spec, TextsSpec):
        slow = stage.spec.encoder != "hashing"
        return SECONDS[stage.kind] + slow * READ * TASKS * stage.spec.per_task
    model, rows = _pretrained(stage), _rows(stage)
    if is_served(stage) and rows:
        return SECONDS[stage.kind] + SERVED * rows[1]
    if model is None or rows is None:
        return SECONDS[stage.kind]
    task, row_passes = rows
    weights, tokens = _size(canonical(task.model_dump(mode="json")), model)
    return SECONDS[stage.kind] + row_passes * tokens * 2 * weights / FLOPS


def model_of(stage: Stage) -> str:
    """Which model a stage trains, else asks, as a digest: measured speed is that model's alone.

    Args:
        stage: of any kind.

    Returns:
        A digest of a small network's shape, of a pretrained model, or of a server; empty where a
        stage works with no model.
    """
    model = _worked_with(stage)
    if model is None:
        return ""
    return digest(canonical([type(model).__name__, model.model_dump(mode="json")]))[:16]


def is_served(stage: Stage) -> bool:
    """Whether a stage waits for a server.

    Args:
        stage: of any kind.
    """
    return isinstance(_worked_with(stage), ServedTeacher)


def _worked_with(stage: Stage) -> Model | None:
    """The model that a stage trains, else that which it asks."""
    specs = (stage.spec, *(needed.spec for needed in stage.inputs))
    return next((model for model in map(_model, specs) if model), None)


def _pretrained(stage: Stage) -> PretrainedModel | None:
    """The model from elsewhere that a stage trains, else that which it asks."""
    specs = (stage.spec, *(needed.spec for needed in stage.inputs))
    models = map(_model, specs)
    return next((model for model in models if isinstance(model, PretrainedModel)), None)


def _model(spec: object) -> Model | None:
    match spec:
        case StudentSpec() | RecipeTeacher() | PostTrainingSpec():
            return _without_recipe(spec.shape)
        case PlateauSpec():
            return _model(spec.attacks[0].student)
        case PretrainedTeacher():
            return spec.model
        case ServedTeacher():
            return spec
    return None


def _without_recipe(shape: Shape | FineTune) -> TinyModel | PretrainedModel:
    kind = PretrainedModel if isinstance(shape, FineTune) else TinyModel
    return kind(**{name: getattr(shape, name) for name in kind.model_fields})


def _rows(stage: Stage) -> tuple[TaskSpec, float] | None:
    """Of which task a stage reads rows, and how many times how often; None where it reads none."""
    match stage.spec:
        case StudentSpec() | RecipeTeacher() | PostTrainingSpec() as spec:
            return spec.task, TRAINED * spec.shape.steps * spec.shape.batch_size
        case PlateauSpec(evaluation=exam, attacks=[attack, *_]):
            shape = attack.student.shape
            trained = 2 * TRAINED * shape.steps * shape.batch_size
            return exam.task, trained + EXAMINED * exam.items
        case EvaluationSpec() as spec:
            return spec.task, EXAMINED * spec.items
        case MarkTestSpec() as spec:
            return spec.task, READ_FOR_MARKS * TESTED
        case PrepareSpec(match=match) as spec:
            return spec.task, TRIES * ANSWERED * match.items * match.seeds if match else 0.0
        case CompletionsSpec() as spec if isinstance(spec, ASKS):
            return spec.task, ANSWERED * spec.budget
    return None


@cached
def _tokens(task: str, model: PretrainedModel) -> float:
    """Tokens of a question with its worked solution, on average."""
    folder = open_model("model", model)
    spec = TaskSpec.model_validate_json(task)
    items = build("task", spec).train_items(ROWS, seed_for("provider"))
    answers = [completion_ids(folder.tokenizer, item.solution, True) for item in items]
    questions = [folder.tokens(item.prompt) for item in items]
    return (sum(map(len, answers)) + sum(questions)) / len(items)


def _size(task: str, model: PretrainedModel) -> tuple[float, float]:
    """Weights of a model, and tokens of a task's row under its tokenizer."""
    return open_model("model", model).weights, _tokens(task, model)
