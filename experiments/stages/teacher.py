"""Stage `teacher`: the model that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from distill.attackers import AttackerResources
from distill.attackers.sft import Attacker, Settings
from distill.completions import BadInput, write_completions
from distill.folders import load
from distill.recordings import Layout, read_recorded
from distill.specs import ChatConfig, PretrainedModel
from experiments.private import revealed, shown
from experiments.settings.components import build
from experiments.stages.files import AskedModel, ModelFile, RecordedModel, ServedSpec
from experiments.stages.models import RECORDED, located
from experiments.stages.resources import solutions
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.stages.training import FineTune, Shape, save_trained, train_fresh

VERSION = 1


class TeacherSpec(Spec):
    """A model that is asked."""

    STAGE: ClassVar[str] = "teacher"


class RecipeTeacher(TeacherSpec):
    """Trained here on worked solutions to so many questions of the task's own training split."""

    kind: Literal["recipe"]
    task: TaskSpec
    shape: Shape | FineTune
    items: int
    seed: int


class PretrainedTeacher(TeacherSpec):
    """From a local folder, told by its contents, or from the hub at a commit."""

    kind: Literal["pretrained"]
    path: str
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    allow_pickle: bool
    revision: str = ""
    adapter: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    chat: ChatConfig = ChatConfig()

    @property
    def model(self) -> PretrainedModel:
        """What is asked, beside how."""
        fields = {name: getattr(self, name) for name in PretrainedModel.model_fields}
        return PretrainedModel(**fields)


class RecordedTeacher(TeacherSpec, Layout):
    """Answers in a file, and how that is written."""

    kind: Literal["recorded"]
    path: str
    prompt: str
    answer: str

    @property
    def layout(self) -> Layout:
        """With the places where its parts lie on this machine."""
        return Layout(**revealed(self.model_dump(include={*Layout.model_fields})))


class ServedTeacher(ServedSpec, TeacherSpec):
    """Behind a server; what it says is recorded beside this stage's result."""


def run(spec: TeacherSpec, inputs: Inputs[Path], out: Path) -> None:
    """Train the teacher by recipe on worked solutions of its own split, or write down where it
    comes from.

    Raises:
        BadInput: it diverged, or is a pretrained one that cannot be loaded.
    """
    match spec:
        case RecordedTeacher():
            recorded = read_recorded(shown(spec.path), spec.layout)
            answers = [answer for some in recorded.answers.values() for answer in some]
            write_completions(out / RECORDED, answers)
            model = RecordedModel(kind="recorded", scored_by=recorded.scored_by)
            ModelFile(model=model).write(out)
        case PretrainedTeacher():
            load(located(spec.model))
            how = {name: getattr(spec, name) for name in AskedModel.model_fields}
            ModelFile(model=AskedModel(**how)).write(out)
        case ServedTeacher():
            ModelFile(model=ServedSpec(**spec.model_dump())).write(out)
        case RecipeTeacher():
            _train(spec, out)


def _train(spec: RecipeTeacher, out: Path) -> None:
    task = build("task", spec.task)
    items = task.train_items(spec.items, spec.seed)
    model, report = train_fresh(
        task,
        spec.shape,
        spec.seed,
        Attacker(Settings()),
        solutions(items),
        AttackerResources(),
        out,
    )
    if report.diverged:
        raise BadInput(
            f"teacher: its training diverged after {report.steps} steps; lower its learning rate "
            f"of {report.learning_rate:g}"
        )
    save_trained(model, spec.shape, out, report.diverged)
    report.model_copy(update={"items": len(items)}).write(out)
