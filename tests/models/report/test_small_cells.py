import polars as pl
import pytest

from models.report.small_cells import people_in_cells, share, shown, shown_together


@pytest.mark.parametrize(
    ("count", "people", "text"),
    [(0, 0, "0"), (30, 10, "fewer than 11"), (1234, 11, "1,234"), (5, 5, "fewer than 11")],
)
def test_small_counts_are_not_shown(count, people, text):
    assert shown(count, people, 11) == text


def test_shares():
    assert share(0.847, is_rounded=False) == "85 %"
    assert share(0.847, is_rounded=True) == "about 80 %"
    assert share(None, is_rounded=False) == "–"


def test_people_in_cells_counts_each_patient_once_a_cell():
    rows = pl.DataFrame(
        {
            "subject_id": [1, 1, 1, 2, 3],
            "risk": [0.9, 0.8, 0.1, 0.5, 0.2],
            "is_event": [True, True, True, False, False],
        }
    )
    assert people_in_cells(rows, 0.5) == {
        "true_positives": 1,
        "false_positives": 1,
        "true_negatives": 1,
        "false_negatives": 1,
    }


def test_counts_beside_a_hidden_one_are_rounded():
    assert shown_together([60, 40, 0], 11) == ["60 (60 %)", "40 (40 %)", "0"]
    # With an exact 87 and the total of 90, the three could be worked out.
    assert shown_together([87, 3], 11) == ["about 80", "fewer than 11"]
