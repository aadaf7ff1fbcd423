"""The feature table by shard: how the dataset is laid out, and who else is in it, changes nothing, to the bit."""

import random
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.feature_plan import plan_columns
from features.feature_shards import feature_parts, plan_features, score_parts, source_parts
from features.feature_tables import build_features
from features.points import KEYS
from features.scores.engine import clinical_scores
from features.settings import StudySettings
from tests.features.small_events import NOON, day, events_table, person, times, visit

HBA1C, DIABETES = "LOINC//4548-4", "SNOMED//44054006"
PEOPLE = range(1, 7)


def somebody(subject_id: int) -> list[dict[str, object]]:
    draw = random.Random(subject_id)
    values = []
    for place in range(40):
        on = draw.randint(-700, 300)
        known = day(on + draw.choice([0, 0.4, 30, 900]))
        values.append({"time": day(on), "known_time": known, "code": HBA1C, "numeric_value": draw.uniform(4, 9)})
        values[-1] |= {"unit": "%", "record_id": 1_000 * subject_id + place}
    visits = [one for on in (-500, -90, -20) for one in visit(day(on), day(on + 2), "IMP", encounter_id=abs(on))]
    rows = [*person(born=datetime(1960, 1, subject_id)), *values, *visits, {"time": day(-600), "code": DIABETES}]
    return [row | {"subject_id": subject_id} for row in rows]


EVENTS = events_table(*(row for subject_id in PEOPLE for row in somebody(subject_id))).collect()
TIMES = pl.concat([times(day(-200), day(-199), NOON, day(250), subject_id=one) for one in [*PEOPLE, 99]])
EVERYTHING = plan_columns([EVENTS.lazy()], TIMES, StudySettings())
PLAN = EVERYTHING.filter(pl.col("kind") != "clinical_score")  # which take their time: once, below
WHOLE = build_features(EVENTS.lazy(), TIMES, PLAN)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=len(PEOPLE), max_size=len(PEOPLE)), st.integers(0, 9))
def test_the_layout_of_the_dataset_changes_nothing(places, seed):
    shuffled = EVENTS.sample(fraction=1, shuffle=True, seed=seed)
    of_place = pl.DataFrame({"subject_id": list(PEOPLE), "place": places})
    shards = [
        shuffled.join(of_place.filter(place=place), on="subject_id", how="semi").lazy() for place in sorted({*places})
    ]
    table = pl.concat(feature_parts(shards, TIMES, PLAN)).sort(KEYS)
    assert_frame_equal(table, WHOLE, check_exact=True)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, TIMES.height - 1), min_size=1, unique=True))
def test_other_prediction_times_and_other_people_change_nothing(places):
    some = TIMES[places]
    events = EVENTS.filter(pl.col("subject_id").is_in(some["subject_id"].implode()))
    expected = WHOLE.join(some, on=KEYS, how="semi", maintain_order="left")
    assert_frame_equal(build_features(events.lazy(), some, PLAN), expected, check_exact=True)


def test_clinical_scores_come_by_shard_too():
    by_person = [EVENTS.filter(subject_id=one).lazy() for one in PEOPLE]
    scores = EVERYTHING.filter(kind="clinical_score")
    assert scores.height > 0
    table = pl.concat(feature_parts(by_person, TIMES, scores)).sort(KEYS)
    assert_frame_equal(table, build_features(EVENTS.lazy(), TIMES, scores), check_exact=True)
    names = scores["feature"].str.strip_prefix("score_").to_list()
    told = pl.concat(score_parts(by_person, TIMES, names)).sort(*KEYS, "score")
    assert_frame_equal(told, clinical_scores(EVENTS.lazy(), TIMES, names))


def test_the_plan_looks_at_every_shard():
    by_person = [EVENTS.filter(subject_id=one).lazy() for one in PEOPLE]
    assert_frame_equal(plan_columns(by_person, TIMES, StudySettings()), EVERYTHING)
    of_train = TIMES.filter(pl.col("subject_id") <= 6)
    assert_frame_equal(
        plan_features(by_person, of_train, StudySettings()), plan_features([EVENTS.lazy()], of_train, StudySettings())
    )


def test_sources_name_the_record_of_each_latest_value():
    found = pl.concat(source_parts([EVENTS.lazy()], TIMES, PLAN))
    latest = WHOLE.select(*KEYS, "hba1c_last").drop_nulls()
    assert latest.height > 10
    behind = found.join(EVENTS.filter(code=HBA1C).select("record_id", "numeric_value"), on="record_id")
    told = latest.join(behind, on=KEYS)
    assert told.height == latest.height == found.height
    assert (told["hba1c_last"] == told["numeric_value"]).all()
    assert set(found["feature"]) == {"hba1c_last"}


@pytest.mark.parametrize("asked", [times(), times(NOON, subject_id=99)])
def test_nobody_has_no_sources(asked):
    assert pl.concat(source_parts([EVENTS.lazy()], asked, PLAN)).is_empty()
