"""docs/tasks.md tells all of the tasks and of their language."""

from pathlib import Path

import pytest

from features.tasks import schema
from features.tasks.aces import without_answers, without_rows
from features.tasks.schema import Task, load_tasks

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
PARTS = (
    schema.Predicate,
    schema.PredictionTime,
    schema.KnownWindow,
    schema.Eligibility,
    schema.Fall,
    schema.Outcome,
    schema.Comparator,
    schema.Task,
)


def row(task: Task) -> str:
    asked = {
        "encounter_end": "the end of a visit",
        "admission": f"{task.prediction_time.hours_after} hours after an admission",
        "discharge": "a discharge from hospital",
        "result": f"a result ({(task.prediction_time.predicate or '').replace('_', ' ')})",
    }[task.prediction_time.at]
    return f"| `{task.name}` | {task.title} | {asked} | {', '.join(f'{days:,}' for days in task.horizons_days)} |"


def test_every_task_has_its_row_and_no_other():
    table = PAGE.split("| task | question |")[1].split("\n\n")[0].splitlines()[2:]
    assert table == [row(task) for task in load_tasks()]


def test_the_example_is_the_shipped_file():
    example = PAGE.split("```yaml\n")[1].split("```")[0]
    assert example == (ROOT / "features" / "tasks" / "type_2_diabetes.yaml").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_every_field_is_told(part):
    assert [name for name in part.model_fields if f"`{name}" not in PAGE] == []


def test_what_aces_cannot_say_is_told():
    table = PAGE.split("| what ACES cannot say |")[1].split("\n\n")[0]
    for task in load_tasks():
        if without_rows(task) or without_answers(task) or task.outcome.verified_by:
            assert f"`{task.name}`" in table
