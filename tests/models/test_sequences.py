from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.settings import StudySettings
from models.batches import SequenceBatch, batch_of, event_places
from models.sequences import ages_years, build_sequences, seen_events
from models.vocabulary import ChronicGroup, NumberScale, SequenceVocabulary, chronic_tokens, fit_vocabulary
from tests.models.planted_population import events_table

NOON = datetime(2015, 6, 1, 12)
GLUCOSE = "LOINC//2339-0"
VOCABULARY = SequenceVocabulary(
    tokens=["(nothing known)", "SEX//female", "STATE//diabetes", "A//1", "A//(other)", GLUCOSE],
    scales={GLUCOSE: NumberScale(unit="mg/dL", values=[80, 100, 120], levels=[0.25, 0.5, 0.75])},
    chronic_groups=[ChronicGroup(name="diabetes", codes=["SNOMED//44054006"], prefixes=["ICD10CM//E11"])],
    lookback_days=730,
    most_visits=5,
    median_age_years=50,
)
KEYS = pl.DataFrame({"subject_id": [1], "prediction_time": [NOON]}, schema_overrides={"subject_id": pl.Int64})


def days_ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def one_patient(*rows: dict[str, object]) -> pl.LazyFrame:
    facts = [
        {"time": days_ago(40 * 365.25), "code": "MEDS_BIRTH"},
        {"code": "SEX//female"},
        {"code": "RACE//2106-3"},
        *rows,
    ]
    return events_table([{"subject_id": 1} | fact for fact in facts]).lazy()


def built(events: pl.LazyFrame, keys: pl.DataFrame = KEYS) -> tuple[SequenceBatch, pl.DataFrame]:
    """All rows as one batch, and the events that they see, in the batch's order."""
    made = build_sequences(events, keys, VOCABULARY)
    rows = np.arange(keys.height)
    return batch_of(made, rows), made.events[event_places(made, rows)]


def visits_of(events: pl.LazyFrame) -> np.ndarray:
    """The visits of the one row: age, gap, days before, kind."""
    return built(events)[0].visits[0].numpy()


def words(events: pl.LazyFrame) -> list[list[str]]:
    """The tokens of each visit of the one row."""
    batch, _ = built(events)
    tokens = [VOCABULARY.tokens[token] for token in batch.tokens]
    spans = zip(batch.bag_starts.tolist(), batch.bag_sizes.tolist(), strict=True)
    return [tokens[start : start + size] for start, size in spans]


def assert_alike(here: tuple[SequenceBatch, pl.DataFrame], there: tuple[SequenceBatch, pl.DataFrame]) -> None:
    """Bit for bit the same numbers and the same events."""
    for name, numbers in vars(here[0]).items():
        assert torch.equal(numbers, getattr(there[0], name)), name
    assert_frame_equal(here[1], there[1])


def test_events_known_on_one_day_are_one_visit_between_state_and_now():
    events = one_patient(
        {"time": days_ago(20), "code": "A//1"},
        {"time": days_ago(25), "known_time": days_ago(19.75), "code": GLUCOSE, "numeric_value": 110, "unit": "mg/dL"},
        {"time": days_ago(3), "code": "A//rare"},
    )
    assert words(events) == [["SEX//female"], ["A//1", GLUCOSE], ["A//(other)"], []]
    batch, known = built(events)
    visits = batch.visits[0].numpy()
    assert visits[:, 2].tolist() == [730, 20, 3, 0]  # days before
    assert visits[:, 0] * 100 == pytest.approx([40 - 730 / 365.25, 40 - 20 / 365.25, 40 - 3 / 365.25, 40])
    # 710, 17 and 3 days since the visit before, on the scale log(1 + gap) / log(1 + 730)
    assert visits[:, 1] == pytest.approx(np.log1p([0, 710, 17, 3]) / np.log1p(730))
    # 110 lies half way between the quantiles 0.5 and 0.75: 0.625, on a scale of -1 to 1
    assert known.filter(pl.col("number") == 110)["value"].item() == pytest.approx(0.25)
    assert torch.equal(batch.values, torch.tensor([0, 0, 0.25, 0]))


def test_a_number_in_another_unit_has_no_value():
    batch, _ = built(one_patient({"time": days_ago(1), "code": GLUCOSE, "numeric_value": 6.1, "unit": "mmol/L"}))
    assert batch.values.tolist() == [0, 0]


def test_only_chronic_state_reaches_over_the_edge_of_the_look_back():
    events = one_patient(
        {"time": days_ago(3000), "code": "SNOMED//44054006"},
        {"time": days_ago(2000), "code": "A//1"},
        {"time": days_ago(730), "code": "A//1"},  # the edge itself is outside
        {"time": days_ago(729), "code": "A//1"},
    )
    assert words(events) == [["SEX//female", "STATE//diabetes"], ["A//1"], []]


def test_a_chronic_code_by_prefix_counts_and_a_later_one_is_no_state():
    assert words(one_patient({"time": days_ago(3000), "code": "ICD10CM//E11.9"}))[0] == [
        "SEX//female",
        "STATE//diabetes",
    ]
    assert words(one_patient({"time": days_ago(10), "code": "SNOMED//44054006"}))[0] == ["SEX//female"]


def test_medicines_given_or_stated_count_as_the_medicine():
    groups = [ChronicGroup(name="insulin_treated", codes=["RXNORM//5856"], prefixes=["RXNORM//27"])]
    codes = pl.Series(["RXNORM//5856//administered", "RXNORM//274783//stated", "RXNORM//5856", "RXNORM//58561"])
    found = chronic_tokens(codes, groups)
    assert set(found["code"]) == set(codes) - {"RXNORM//58561"}
    assert set(found["token"]) == {"STATE//insulin_treated"}
    assert chronic_tokens(codes, []).is_empty()


def test_a_day_on_which_the_look_back_begins_or_ends_counts_only_inside_it():
    hour = 1 / 24
    events = one_patient(
        {"time": days_ago(730 + hour), "code": "A//1"},
        {"time": days_ago(730 - hour), "code": "A//rare"},
        {"time": days_ago(730 - 2 * hour), "code": "A//1"},
        {"time": days_ago(3 * hour), "code": "A//1"},
        {"time": days_ago(-hour), "code": "A//1"},
    )
    later = KEYS.with_columns(pl.col("prediction_time") + pl.duration(hours=2))
    assert words(events) == [["SEX//female"], ["A//(other)", "A//1"], ["A//1"], []]
    # A visit begins with the first event that the row sees of it.
    assert visits_of(events)[:, 2] == pytest.approx([730, 730 - hour, 3 * hour, 0])
    batch, _ = built(events, pl.concat([KEYS, later]))
    assert batch.bag_sizes.tolist() == [1, 2, 1, 0, 1, 2, 0, 0]  # two hours later the edge has passed both events
    assert [VOCABULARY.tokens[token] for token in batch.tokens[4:]] == ["SEX//female", "A//1", "A//1"]


def test_the_newest_visits_are_kept():
    visits = [{"time": days_ago(day), "code": "A//1"} for day in (50, 40, 30, 20, 10)]
    assert visits_of(one_patient(*visits))[:, 2].tolist() == [730, 30, 20, 10, 0]


def test_death_birth_race_and_site_are_no_tokens():
    events = one_patient(
        *[
            {"time": days_ago(5), "code": code}
            for code in ("MEDS_DEATH", "SITE//3", "RACE//2106-3", "ETHNICITY//2186-5", "A//1")
        ]
    )
    seen = seen_events(events, KEYS, 730)
    assert seen["code"].to_list() == ["A//1"]


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
    keys = pl.concat([KEYS, KEYS.with_columns(pl.col("prediction_time") + pl.duration(days=400))])
    alone = build_sequences(one_patient(*known), KEYS, VOCABULARY)
    with_later = build_sequences(one_patient(*known, *later), keys, VOCABULARY)
    first = np.array([0])
    assert_alike(
        (batch_of(alone, first), alone.events[event_places(alone, first)]),
        (batch_of(with_later, first), with_later.events[event_places(with_later, first)]),
    )


def test_moving_every_date_by_weeks_changes_nothing():
    rows = [{"time": days_ago(day), "code": "A//1"} for day in (700, 30.25, 2)]
    events = one_patient(*rows)
    week = pl.duration(weeks=-123)
    moved = events.with_columns(pl.col("time") + week, pl.col("known_time") + week)
    assert_alike(built(events), built(moved, KEYS.with_columns(pl.col("prediction_time") + week)))


def test_a_longer_record_changes_nothing():
    rows = [{"time": days_ago(day), "code": "A//1"} for day in (700, 2)]
    longer = [{"time": days_ago(day), "code": "A//1"} for day in range(800, 4000, 100)]
    short, long = (visits_of(one_patient(*rows, *more)).tobytes() for more in ([], longer))
    assert short == long


moments = st.lists(st.integers(0, 8000).map(lambda quarter: quarter / 4), min_size=1, max_size=4, unique=True)


@settings(max_examples=25, deadline=None)
@given(record=st.lists(past, max_size=12), asked=moments)
def test_rows_of_one_patient_share_a_timeline_and_each_sees_what_it_would_see_alone(record, asked):
    events = one_patient(*[{"time": days_ago(day), "code": code} for day, code in record])
    keys = pl.DataFrame(
        {"subject_id": [1] * len(asked), "prediction_time": [days_ago(day - 1000) for day in asked]},
        schema=KEYS.schema,
    )
    together = build_sequences(events, keys, VOCABULARY)
    assert len(together.known_us) <= len(record)  # however many rows see an event, it is held once
    for row in range(keys.height):
        here = np.array([row])
        assert_alike(
            (batch_of(together, here), together.events[event_places(together, here)]), built(events, keys[here])
        )


def test_a_batch_holds_each_row_whole():
    events = pl.concat(
        [
            one_patient({"time": days_ago(20), "code": "A//1"}, {"time": days_ago(10), "code": "A//1"}),
            events_table([{"subject_id": 2, "time": days_ago(7), "code": "A//1"}]).lazy(),
        ]
    )
    keys = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [NOON, NOON]})
    made = build_sequences(events, keys, VOCABULARY)
    batch = batch_of(made, np.array([1, 0]))
    assert batch.visits.shape == (2, 4, 4)
    assert batch.visits[:, :, 2].tolist() == [[730, 7, 0, 0], [730, 20, 10, 0]]
    assert batch.last_visit.tolist() == [2, 3]
    # Events a visit: state without sex, one, now, padding; then state with sex, one, one, now.
    assert batch.bag_sizes.tolist() == [0, 1, 0, 0, 1, 1, 1, 0]
    assert [VOCABULARY.tokens[token] for token in batch.tokens] == ["A//1", "SEX//female", "A//1", "A//1"]


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
        seen_events(events, keys, 730), ages_years(events, keys), [], StudySettings(smallest_cell=11), 64
    )
    assert fitted.tokens == ["(nothing known)", "A//(other)", "A//common", GLUCOSE, "SEX//female", "SEX//male"]
    # The smallest and largest value belong to single people and stay out.
    assert min(fitted.scales[GLUCOSE].values) > 1
    assert max(fitted.scales[GLUCOSE].values) < 30
