import polars as pl

from benchmarks.more_patients import _truth, drawn
from models.questions import Question


def test_the_fewer_are_among_the_more_and_all_are_all():
    subjects = pl.Series([5, 3, 3, 9, 1, 7, 1])
    few, more, everybody = (drawn(subjects, size, seed=1) for size in ("2", "4", "all"))
    assert len(few) == 2
    assert set(few) < set(more) < set(everybody)
    assert sorted(everybody) == [1, 3, 5, 7, 9]
    assert drawn(subjects, "2", seed=1) == few


def test_the_truth_is_that_of_the_question_with_usual_care():
    times = pl.Series([1, 2, 3], dtype=pl.Int64).cast(pl.Datetime("us"))
    judged = pl.DataFrame({"subject_id": [1, 2, 3], "prediction_time": times})
    rows = [(3, "as usual", "stroke", 365, 0.3), (1, "as usual", "stroke", 365, 0.1)]
    rows += [(2, "with statin", "stroke", 365, 0.2), (2, "as usual", "stroke", 730, 0.4)]
    risks = pl.DataFrame(rows, schema=["subject_id", "treatment", "task", "horizon_days", "risk"], orient="row")
    risks = risks.join(judged, on="subject_id")
    is_known, truth = _truth(judged, Question("stroke", 365), risks)
    assert is_known.tolist() == [True, False, True]
    assert truth[is_known].tolist() == [0.1, 0.3]
    assert not _truth(judged, Question("stroke", 365), None)[0].any()
