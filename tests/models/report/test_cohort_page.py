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
    "followed_years",
    "median_followed_days",
]


def page(folder, *rows: tuple) -> str:
    table = pl.DataFrame(
        [("acute_care", *row, *[None] * (len(COLUMNS) - 1 - len(row))) for row in rows],
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
    # 1,004, then 5 fewer, then the same again: none of these may be seen exactly. Then 94 fewer: exact again.
    people = [1_004, 999, 999, 905]
    steps = [(None, "step", n, f"rule {n}", 10 * many, many, None, None) for n, many in enumerate(people)]
    text = page(tmp_path, *steps)
    assert [cells(text, f"rule {n}") for n in range(4)] == [
        ["about 10,040", "about 1,000"],
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
    assert cells(text, "event")[:2] == ["fewer than 11", "fewer than 11"]
    assert cells(text, "none")[:2] == ["about 1,240", "about 500"]
    assert cells(text, "77")[:4] == ["600", "300", "not shown", "not shown"]


def test_a_sum_does_not_give_a_hidden_count_away(tmp_path):
    # 43 outcomes in all and 40 of them at site 77: those of site 78 would be 3. The years hide nothing, and are shown.
    text = page(
        tmp_path,
        (365, "state", 0, "event", 43, 43, 43, 43),
        (365, "state", 1, "none", 957, 500, 0, 0),
        (365, "site", 1, "77", 600, 300, 40, 40),
        (365, "site", 2, "78", 400, 243, 3, 3),
        (365, "calendar_year", 2014, "2014", 500, 300, 21, 21),
        (365, "calendar_year", 2015, "2015", 500, 300, 22, 22),
    )
    assert cells(text, "event")[:2] == ["43", "43"]
    assert cells(text, "77")[:4] == ["600", "300", "not shown", "not shown"]
    assert cells(text, "78")[:4] == ["400", "243", "not shown", "not shown"]
    assert cells(text, "2014")[:4] == ["500", "300", "21", "21"]


def test_outcomes_of_sites_do_not_give_a_hidden_state_away(tmp_path):
    # 100 outcomes at the only site, of 105 in all: 5 died first.
    text = page(
        tmp_path,
        (365, "state", 0, "event", 100, 100, 100, 100),
        (365, "state", 2, "died_first", 5, 5, 0, 0),
        (365, "site", 1, "77", 105, 105, 100, 100),
    )
    assert cells(text, "event")[0] == "about 100"
    assert cells(text, "77")[2:4] == ["not shown", "not shown"]


def test_follow_up_is_told_but_of_few_people(tmp_path):
    row = (365, "calendar_year")
    states = (365, "state", 1, "none", 700, 260, 0, 0, 650.4, 365.0)
    text = page(tmp_path, states, (*row, 1, "2014", 400, 200, 0, 0, 380.2, 365.0))
    assert cells(text, "2014") == ["400", "200", "0", "0", "380", "365"]
    few = page(
        tmp_path, states, (*row, 1, "2014", 690, 255, 0, 0, 640.2, 365.0), (*row, 2, "2015", 10, 5, 0, 0, 9.5, 300.0)
    )
    assert cells(few, "2014")[-2:] == ["not shown", "365"]  # years add up to those of all
    assert cells(few, "2015")[-2:] == ["not shown", "not shown"]


def test_what_is_left_out_for_a_horizon_stands_beside_what_followed(tmp_path):
    text = page(
        tmp_path,
        (365, "left_out", 1, "left out: the outcome came in the gap", 30, 20, None, None),
        (365, "state", 1, "none", 700, 260, 0, 0, 650.4, 365.0),
    )
    assert cells(text, "left out: the outcome came in the gap") == ["30", "20", "", ""]
    assert text.index("<td>none</td>") < text.index("left out: the outcome")


def test_what_the_records_cannot_answer_is_said(tmp_path):
    assert "cannot answer this: no code of it" in page(tmp_path, (365, "refused", 0, "no code of it", 0, 0, None, None))
