import polars as pl

from features.settings import StudySettings
from features.tables import CohortCounts, checked, empty
from features.tasks.schema import load_tasks
from models.report.cohort_page import write_cohort_page

TASKS = [task for task in load_tasks() if task.name == "acute_care"]
COLUMNS = [
    "task",
    "horizon_days",
    "part",
    "place",
    "name",
    "prediction_times",
    "subjects",
    "events",
    "subjects_with_event",
]


def page(folder, *rows: tuple) -> str:
    table = pl.DataFrame(
        [("acute_care", *row) for row in rows],
        schema={name: empty(CohortCounts).schema[name] for name in COLUMNS},
        orient="row",
    )
    full = pl.concat([empty(CohortCounts), table], how="diagonal")
    return write_cohort_page(
        folder, checked(full, CohortCounts), TASKS, "Simulated patients", StudySettings()
    ).read_text()


def cells(text: str, first: str) -> list[str]:
    line = next(line for line in text.splitlines() if f"<td>{first}</td>" in line)
    return [cell.split("</td>")[0] for cell in line.split('<td class="number">')[1:]]


def test_steps_that_leave_out_few_people_are_rounded(tmp_path):
    # 1,004, then 5 fewer, then the same again: neither exact number may be seen. Then 99 fewer: exact again.
    people = [1_004, 999, 999, 905]
    steps = [(None, "step", n, f"rule {n}", 10 * many, many, None, None) for n, many in enumerate(people)]
    text = page(tmp_path, *steps)
    assert [cells(text, f"rule {n}") for n in range(4)] == [
        ["10,040", "1,004"],
        ["about 10,000", "about 1,000"],
        ["about 10,000", "about 1,000"],
        ["9,050", "905"],
    ]


def test_small_cells_are_hidden_and_their_neighbours_rounded(tmp_path):
    text = page(
        tmp_path,
        (365, "state", 0, "event", 12, 4, 12, 4),
        (365, "state", 1, "none", 1_234, 500, 0, 0),
        (365, "site", 1, "77", 600, 300, 9, 3),
        (365, "site", 2, "78", 646, 204, 3, 1),
    )
    assert "<title>Sequela: cohorts</title>" in text
    assert "Synthetic data" in text
    assert cells(text, "event") == ["fewer than 11", "fewer than 11"]
    assert cells(text, "none") == ["about 1,240", "about 500"]
    assert cells(text, "77") == ["600", "300", "not shown", "not shown"]


def test_what_the_records_cannot_answer_is_said(tmp_path):
    assert "cannot answer this: no code of it" in page(tmp_path, (365, "refused", 0, "no code of it", 0, 0, None, None))
