from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from torch.testing import assert_close

from features.settings import StudySettings
from models.batches import (
    SequenceBatch,
    Stretches,
    batch_of,
    batches_of,
    row_events,
    shuffled_batches,
    stretches_of,
)
from models.sequences import Sequences, Spans, ages_years, build_sequences, seen_events
from models.vocabulary import ChronicGroup, NumberScale, SequenceVocabulary, chronic_tokens, fit_vocabulary
from tests.models.planted_population import events_table

NOON = datetime(2015, 6, 1, 12)
GLUCOSE = "LOINC//2339-0"
VOCABULARY = SequenceVocabulary(
    tokens=["(nothing known)", "SEX//female", "STATE//diabetes", "A//1", "A//(other)", GLUCOSE],
    scales={GLUCOSE: NumberScale(unit="mg/dL", values=[80, 100, 120], levels=[0.25, 0.5, 0.75])},
    chronic_groups=[ChronicGroup(name="diabetes", codes=["SNOMED//44054006"], prefixes=["ICD10CM//E11"])],
    lookback_days=730,
    median_age_years=50,
)
KEYS = pl.DataFrame({"subject_id": [1], "prediction_time": [NOON]}, schema_overrides={"subject_id": pl.Int64})


def days_ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def asked_on(*days: float) -> pl.DataFrame:
    """Patient 1 at noon, so many days before NOON."""
    return pl.DataFrame(
        {"subject_id": [1] * len(days), "prediction_time": [days_ago(day) for day in days]}, schema=KEYS.schema
    )


def one_patient(*rows: dict[str, object]) -> pl.LazyFrame:
    facts = [
        {"time": days_ago(40 * 365.25), "code": "MEDS_BIRTH"},
        {"code": "SEX//female"},
        {"code": "RACE//2106-3"},
        *rows,
    ]
    return events_table([{"subject_id": 1} | fact for fact in facts]).lazy()


def code_on(*days: float, code: str = "A//1") -> list[dict[str, object]]:
    return [{"time": days_ago(day), "code": code} for day in days]


def batched(sequences: Sequences, rows: list[int] | None = None, most: int = 32) -> SequenceBatch:
    """The rows, in stretches of at most `most`, as one batch."""
    stretches = stretches_of(sequences, np.arange(sequences.keys.height) if rows is None else np.array(rows), most)
    return batch_of(sequences, stretches, np.arange(len(stretches)))


def built(events: pl.LazyFrame, keys: pl.DataFrame = KEYS) -> SequenceBatch:
    """All rows as one batch."""
    return batched(build_sequences(events, keys, VOCABULARY))


def alone(sequences: Sequences, row: int) -> tuple[SequenceBatch, pl.DataFrame]:
    """A row in a stretch of its own, and the events that it sees."""
    return batched(sequences, [row], most=1), sequences.events[row_events(sequences, row)]


def words(batch: SequenceBatch) -> list[list[str]]:
    """The tokens of each place, stretch after stretch."""
    tokens = [VOCABULARY.tokens[token] for token in batch.tokens]
    spans = zip(batch.bag_starts.tolist(), batch.bag_sizes.tolist(), strict=True)
    return [tokens[start : start + size] for start, size in spans]


def assert_alike(here: tuple[SequenceBatch, pl.DataFrame], there: tuple[SequenceBatch, pl.DataFrame]) -> None:
    """Bit for bit the same numbers and the same events, whichever rows they are."""
    for name, numbers in vars(here[0]).items():
        if name != "rows":
            assert numbers.numpy().tobytes() == getattr(there[0], name).numpy().tobytes(), name
    assert_frame_equal(here[1], there[1])


def test_events_known_on_one_day_are_one_visit_and_the_row_stands_last_with_its_state():
    events = one_patient(
        *code_on(20),
        {"time": days_ago(25), "known_time": days_ago(19.75), "code": GLUCOSE, "numeric_value": 110, "unit": "mg/dL"},
        *code_on(3, code="A//rare"),
    )
    batch = built(events)
    assert words(batch) == [["A//1", GLUCOSE], ["A//(other)"], ["SEX//female"]]
    assert batch.days[0].tolist() == [-20, -3, 0]
    assert (batch.moments_us[0] / 86_400_000_000).tolist() == [-20, -3, 0]
    assert batch.ages[0].numpy() * 100 == pytest.approx([40 - 20 / 365.25, 40 - 3 / 365.25, 40])
    assert batch.gaps[0].tolist() == [0, 0, 3]  # a visit has none: what lies before it may lie before the look-back
    assert batch.is_seen[0].int().tolist() == [[1, 0], [1, 1], [1, 1]]
    # 110 lies half way between the quantiles 0.5 and 0.75: 0.625, on a scale of -1 to 1 a quarter
    assert_close(batch.values, torch.tensor([torch.nan, 0.25, torch.nan, torch.nan]), equal_nan=True)
    assert batch.is_state.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (80, -0.5),  # the quantile 0.25: 2 x 0.25 - 1
        (95, -0.125),  # three quarters of the way from 0.25 to 0.5: 0.4375
        (120, 0.5),  # the quantile 0.75
        (140, 1.5),  # 20 beyond the last one known, at 2 for the 40 between first and last
        (70, -1.0),
        (500, 3.0),  # and no farther
    ],
)
def test_a_number_becomes_a_quantile_and_beyond_them_goes_on(number, value):
    batch = built(one_patient({"time": days_ago(1), "code": GLUCOSE, "numeric_value": number, "unit": "mg/dL"}))
    assert batch.values[0].item() == pytest.approx(value)


@pytest.mark.parametrize(("number", "unit"), [(6.1, "mmol/L"), (None, "mg/dL")])
def test_a_number_in_another_unit_or_none_has_no_value(number, unit):
    batch = built(one_patient({"time": days_ago(1), "code": GLUCOSE, "numeric_value": number, "unit": unit}))
    assert batch.values.isnan().all()


def test_what_the_day_itself_has_brought_stands_at_the_row_up_to_its_moment():
    hour = 1 / 24
    sequences = build_sequences(one_patient(*code_on(3 * hour, -hour)), asked_on(0, -2 * hour), VOCABULARY)
    # Both rows ask on the one day that has events, so nobody has a past visit.
    batch = batched(sequences)
    assert batch.is_seen.shape == (1, 2, 0)
    assert words(batch) == [["SEX//female", "A//1"], ["SEX//female", "A//1", "A//1"]]
    assert batch.is_state.tolist() == [True, False, True, False, False]


def test_only_chronic_state_reaches_over_the_edge_of_the_look_back():
    events = one_patient(*code_on(2000), *code_on(3000, code="SNOMED//44054006"), *code_on(730, 729, 10))
    # The day on which the look-back begins is left out.
    assert words(built(events)) == [["A//1"], ["A//1"], ["SEX//female", "STATE//diabetes"]]


@pytest.mark.parametrize(
    ("days", "value"),
    [
        (0, -1.0),
        (36.525, -0.8),  # a tenth of a year is a hundredth of ten years; its root is 0.1, and 2 x 0.1 - 1
        (2.5 * 365.25, 0.0),  # a quarter of ten years
        (5000, 1.0),  # more than ten years
    ],
)
def test_a_chronic_condition_tells_the_years_since(days, value):
    batch = built(one_patient(*code_on(days, code="ICD10CM//E11.9")))
    assert words(batch)[-1][:2] == ["SEX//female", "STATE//diabetes"]
    assert batch.values[batch.tokens == 2].item() == pytest.approx(value, abs=1e-6)


def test_a_chronic_condition_known_later_is_no_state():
    assert words(built(one_patient(*code_on(-1, code="SNOMED//44054006")))) == [["SEX//female"]]


def test_medicines_given_or_stated_count_as_the_medicine():
    groups = [ChronicGroup(name="insulin_treated", codes=["RXNORM//5856"], prefixes=["RXNORM//27"])]
    codes = pl.Series(["RXNORM//5856//administered", "RXNORM//274783//stated", "RXNORM//5856", "RXNORM//58561"])
    found = chronic_tokens(codes, groups)
    assert set(found["code"]) == set(codes) - {"RXNORM//58561"}
    assert set(found["token"]) == {"STATE//insulin_treated"}
    assert chronic_tokens(codes, []).is_empty()


def test_death_birth_race_and_site_are_no_tokens():
    events = one_patient(
        *[
            {"time": days_ago(5), "code": code}
            for code in ("MEDS_DEATH", "SITE//3", "RACE//2106-3", "ETHNICITY//2186-5", "A//1")
        ]
    )
    seen = seen_events(events, KEYS, 730)
    assert seen["code"].to_list() == ["A//1"]


@pytest.mark.parametrize("years", [-46, -60, -75])
def test_records_before_1970_are_like_any_other(years):
    """Days before 1970 are counted below 0; NOON is in 2015."""
    shift = pl.duration(days=years * 365)
    events = one_patient(*code_on(700, 30.25, 2)).with_columns(pl.col("time") + shift, pl.col("known_time") + shift)
    batch = built(events, KEYS.with_columns(pl.col("prediction_time") + shift))
    assert batch.days[0].tolist() == [-700, -30, -2, 0]
    assert batch.is_seen[0, -1].all()


def test_ages_end_at_90_and_an_unknown_birth_is_the_median_at_every_place():
    birth = {"time": days_ago(91 * 365.25), "code": "MEDS_BIRTH", "subject_id": 1}
    visit = code_on(740, 20)
    keys = asked_on(730, 0)
    for facts, expected in [([birth], [91 - 740 / 365.25, 90, 91 - 730 / 365.25, 90]), ([], [50] * 4)]:
        events = events_table([{"subject_id": 1} | fact for fact in (*facts, *visit)]).lazy()
        # At the first visit and prediction time she was 88.97 and 89, at the others 90.9 and 91.
        batch = built(events, keys)
        assert batch.ages[0].numpy() * 100 == pytest.approx(expected, abs=0.01)
        earlier = batched(build_sequences(events, keys, VOCABULARY), [0])
        assert earlier.ages[0, -1] == pytest.approx(batch.ages[0, -2])


past = st.tuples(
    st.integers(0, 3600).map(lambda quarter: quarter / 4), st.sampled_from(["A//1", "A//2", "SNOMED//44054006"])
)


@settings(max_examples=25, deadline=None)
@given(before=st.lists(past, max_size=8), after=st.lists(past, max_size=8), early=st.lists(past, max_size=4))
def test_what_is_known_later_changes_nothing(before, after, early):
    known = [{"time": days_ago(day), "code": code} for day, code in before]
    later = [{"time": NOON + timedelta(seconds=1 + day * 86_400), "code": code} for day, code in after]
    # Happened before, but only known after.
    later += [{"time": days_ago(day), "known_time": NOON + timedelta(days=1), "code": code} for day, code in early]
    # A later prediction time sees the later events, so they are held; this one must not.
    without = build_sequences(one_patient(*known), KEYS, VOCABULARY)
    with_later = build_sequences(one_patient(*known, *later), asked_on(0, -400), VOCABULARY)
    assert_alike(alone(without, 0), alone(with_later, 0))


def test_moving_every_date_by_weeks_changes_nothing():
    events = one_patient(*code_on(700, 30.25, 2))
    week = pl.duration(weeks=-123)
    moved = events.with_columns(pl.col("time") + week, pl.col("known_time") + week)
    moved_keys = KEYS.with_columns(pl.col("prediction_time") + week)
    assert_alike(
        alone(build_sequences(events, KEYS, VOCABULARY), 0), alone(build_sequences(moved, moved_keys, VOCABULARY), 0)
    )


def test_a_longer_record_changes_nothing():
    short, long = (
        build_sequences(one_patient(*code_on(700, 2), *code_on(*older)), KEYS, VOCABULARY)
        for older in ([], range(4000, 800, -100))
    )
    assert_frame_equal(alone(short, 0)[1].drop("record_id"), alone(long, 0)[1].drop("record_id"))
    assert_alike((alone(short, 0)[0], short.keys), (alone(long, 0)[0], long.keys))


moments = st.lists(st.integers(0, 8000).map(lambda quarter: quarter / 4), min_size=1, max_size=4, unique=True)


@settings(max_examples=25, deadline=None)
@given(record=st.lists(past, max_size=12), asked=moments)
def test_rows_of_one_patient_share_a_timeline_and_each_sees_what_it_would_see_alone(record, asked):
    events = one_patient(*[{"time": days_ago(day), "code": code} for day, code in record])
    keys = asked_on(*[day - 1000 for day in asked])
    together = build_sequences(events, keys, VOCABULARY)
    assert len(together.known_us) <= len(record)  # however many rows see an event, it is held once
    for row in range(keys.height):
        assert_alike(alone(together, row), alone(build_sequences(events, keys[row : row + 1], VOCABULARY), 0))


@settings(max_examples=25, deadline=None)
@given(record=st.lists(past, max_size=12), asked=moments)
def test_a_row_sees_the_same_events_in_a_stretch_of_many(record, asked):
    events = one_patient(*[{"time": days_ago(day), "code": code} for day, code in record])
    sequences = build_sequences(events, asked_on(*[day - 1000 for day in asked]), VOCABULARY)
    together = batched(sequences)
    tokens_of_places = words(together)
    visits = together.is_seen.shape[-1]
    for row, place in zip(together.rows.tolist(), together.row_places.tolist(), strict=True):
        own = alone(sequences, row)[0]
        seen = [tokens_of_places[visit] for visit in range(visits) if together.is_seen[0, place, visit]]
        assert [*seen, tokens_of_places[place]] == words(own)
        assert together.gaps[0, place] == own.gaps[0, -1]
        assert together.ages[0, place] == pytest.approx(own.ages[0, -1].item(), abs=1e-6)
        # From the row back to each visit it is as long.
        is_seen = together.is_seen[0, place]
        ago = together.moments_us[0, place] - together.moments_us[0, :visits][is_seen]
        assert torch.equal(ago, -own.moments_us[0, :-1])


def test_a_batch_pads_stretches_with_empty_places():
    events = pl.concat(
        [
            one_patient(*code_on(20, 10)),
            events_table([{"subject_id": 2, "time": days_ago(7), "code": "A//1"}]).lazy(),
        ]
    )
    keys = pl.DataFrame({"subject_id": [2, 1, 1], "prediction_time": [NOON, NOON, days_ago(15)]})
    batch = batched(build_sequences(events, keys, VOCABULARY))
    # Two visits, then two rows of patient 1, the earlier first; patient 2 has one of each.
    assert batch.rows.tolist() == [2, 1, 0]
    assert batch.row_places.tolist() == [2, 3, 6]
    assert batch.days.tolist() == [[-20, -10, -15, 0], [-7, 0, 0, 0]]
    assert batch.gaps.tolist() == [[0, 0, 5, 10], [0, 0, 7, 0]]
    assert words(batch) == [["A//1"], ["A//1"], ["SEX//female"], ["SEX//female"], ["A//1"], [], [], []]
    assert batch.is_seen.int().tolist() == [[[1, 0], [1, 1], [1, 0], [1, 1]], [[1, 0], [0, 0], [1, 0], [0, 0]]]


def test_stretches_are_cut_by_patient_and_at_most():
    keys = pl.concat([asked_on(*range(5)), KEYS.with_columns(subject_id=pl.lit(9, pl.Int64))])
    sequences = build_sequences(one_patient(*code_on(1.5, 100, 732)), keys, VOCABULARY)
    stretches = stretches_of(sequences, np.array([5, 0, 1, 2, 3, 4]), most=2)
    # In order of time patient 1 is asked on days 4, 3, 2, 1 and 0 before: two, two and one row; then patient 9.
    assert stretches.rows.tolist() == [4, 3, 2, 1, 0, 5]
    assert stretches.spans.starts.tolist() == [0, 2, 4, 5]
    assert stretches.spans.sizes.tolist() == [2, 2, 1, 1]
    # Visits: 732 days before, only in the look-back until day 3; 100 before; at midnight before day 1, of
    # which day it is, so past on day 0 only.
    assert stretches.visits.sizes.tolist() == [2, 1, 2, 0]
    assert stretches.visits.starts[:3].tolist() == [0, 1, 1]
    assert stretches.lengths().tolist() == [4, 3, 3, 1]
    assert len(stretches_of(sequences, np.array([], dtype=np.int64))) == 0


def test_spans_are_places_side_by_side():
    spans = Spans(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert spans.places().tolist() == [5, 6, 9, 10, 11]
    assert spans[np.array([2, 0])].places().tolist() == [9, 10, 11, 5, 6]


def of_sizes(visits: list[int], rows: list[int]) -> Stretches:
    nowhere = np.zeros(len(visits), dtype=np.int64)
    return Stretches(nowhere, Spans(nowhere, np.array(rows, np.int64)), Spans(nowhere, np.array(visits, np.int64)))


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), max_size=60), most=st.integers(10, 120))
def test_batches_hold_each_stretch_once_and_stay_small(sizes, most):
    visits, rows = ([one[place] for one in sizes] for place in (0, 1))
    stretches = of_sizes(visits, rows)
    for batches in (list(batches_of(stretches, most)), shuffled_batches(stretches, most, np.random.default_rng(1))):
        assert sorted(place for batch in batches for place in batch.tolist()) == list(range(len(sizes)))
        for batch in batches:
            padded = len(batch) * (max(visits[place] for place in batch) + max(rows[place] for place in batch))
            assert padded <= most or len(batch) == 1


def test_alike_lengths_go_together():
    # Each has one row. 2 + 1 twice make 6; with 3 + 1 it would be 3 x 4 = 12 of at most 10; 4 and 9 would be 18.
    stretches = of_sizes([8, 2, 3, 2], [1, 1, 1, 1])
    assert [batch.tolist() for batch in batches_of(stretches, 10)] == [[1, 3], [2], [0]]
    assert [batch.tolist() for batch in batches_of(stretches, 10, np.array([3, 0]))] == [[3], [0]]
    # Five visits and one row beside one visit and five rows are padded to five and five, twice.
    assert [batch.tolist() for batch in batches_of(of_sizes([5, 1], [1, 5]), 19)] == [[0], [1]]


def test_vocabulary_leaves_out_what_only_a_few_patients_have():
    rows = [
        {"subject_id": subject, "time": days_ago(5), "code": code, "numeric_value": value, "unit": unit}
        for subject in range(1, 31)
        for code, value, unit in [
            ("A//common", None, None),
            (f"A//single-{subject}", None, None),
            (GLUCOSE, float(subject), "mg/dL"),
            *([("B//few", None, None)] if subject <= 10 else []),
        ]
    ]
    events = events_table(rows).lazy()
    keys = pl.DataFrame({"subject_id": range(1, 31), "prediction_time": [NOON] * 30}).cast({"subject_id": pl.Int64})
    fitted = fit_vocabulary(
        seen_events(events, keys, 730), ages_years(events, keys), [], StudySettings(smallest_cell=11)
    )
    assert fitted.tokens == ["(nothing known)", "A//(other)", "A//common", GLUCOSE, "SEX//female", "SEX//male"]
    # The smallest and largest value belong to single people and stay out.
    assert min(fitted.scales[GLUCOSE].values) > 1
    assert max(fitted.scales[GLUCOSE].values) < 30
