import random
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.feature_plan import plan_columns
from features.feature_shards import plan_features
from features.feature_tables import build_features, records_behind
from features.meds_codes import DEATH
from features.settings import StudySettings
from tests.features.small_events import NOON, day, events_table, person, times, visit

HBA1C, SYSTOLIC, DIABETES, SINUSITIS = "LOINC//4548-4", "LOINC//8480-6", "SNOMED//44054006", "SNOMED//444814009"
STUDY = StudySettings()


def happened(code: str, on: float, number: float | None = None, known: float | None = None) -> dict[str, object]:
    return {
        "time": day(on),
        "known_time": day(on if known is None else known),
        "code": code,
        "numeric_value": number,
        "unit": None if number is None else "%",
    }


HISTORY = [
    *person(born=datetime(1965, 6, 15, 12)),
    {"code": "RACE//2106-3"},
    *visit(day(-400), visit_class="EMER", encounter_id=1),
    *visit(day(-100), day(-97.5), "IMP", encounter_id=2),
    *visit(day(-1 / 24), NOON, encounter_id=3),
    happened(DIABETES, -3_000),
    happened(DIABETES, -900),
    happened(SINUSITIS, -500),
    happened(SINUSITIS, -20),
    happened(HBA1C, -365.25, 6),
    happened(HBA1C, 0, 7),
    happened(SYSTOLIC, -10, 140),
    happened("RXNORM//860975", -50),
    happened("RXNORM//860975//administered", -40),
    happened("RXNORM//562251", -45),
    happened("RXNORM//999", -30),
    happened("ICD10CM//R05.1", -60),
    happened("ICD10CM//R05.9", -50),
    happened("ICD10CM//R11.2", -50),
    happened("CVX//140", -30),
]
EVENTS = events_table(*HISTORY)
EVERYTHING = plan_columns([EVENTS], times(NOON), STUDY)
PLAN = EVERYTHING.filter(pl.col("kind") != "clinical_score")  # those have their own tests, and take their time


def features(events: pl.LazyFrame = EVENTS, at: datetime = NOON) -> dict[str, float | None]:
    return build_features(events, times(at), PLAN).row(0, named=True)


def test_as_many_rows_as_columns_are_no_transpose():
    """Such a table is square, and nothing about its shape tells rows from columns."""
    plan = PLAN.filter(pl.col("feature").is_in(["age_years", "is_female", "has_type_2_diabetes"]))
    square = build_features(EVENTS, times(day(-1), NOON, day(1)), plan)
    assert square["is_female"].to_list() == [1, 1, 1]
    assert square["age_years"].to_list() == pytest.approx([49.996, 49.999, 50.001], abs=0.001)


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("age_years", 49.999),  # 18,262 days / 365.25
        ("is_female", 1),
        ("has_type_2_diabetes", 1),  # 3,000 days ago, and never resolved
        ("years_since_type_2_diabetes", 3_000 / 365.25),
        ("visits_ambulatory_180d", 1),  # the one that ends at the prediction time
        ("visits_inpatient_180d", 1),
        ("visits_emergency_180d", 0),
        ("visits_emergency_2y", 1),
        ("days_since_last_visit", 97.5),  # the stay; the visit that ends now is not its own predecessor
        ("days_since_last_emergency_visit", 400 - 1 / 24),
        ("days_in_hospital_180d", 2.5),
        ("visits_inpatient_30d", 0),
        ("visits_ambulatory_1y", 1),
        ("days_in_hospital_30d", 0),
        # Days with a visit: 400 and 100 days ago and today. Gaps of 300 and 100 days: mean 200, longest 300,
        # standard deviation of the sample 141.42, so 0.7071 of the mean.
        ("visit_mean_gap_2y", 200),
        ("visit_longest_gap_2y", 300),
        ("visit_gap_variation_2y", 0.707107),
        ("acute_sinusitis_count_30d", 1),
        ("acute_sinusitis_count_180d", 1),
        ("acute_sinusitis_count_2y", 2),
        ("metformin_count_2y", 2),  # ordered once, administered once
        ("rxnorm_999_count_2y", 1),  # in no group
        ("takes_metformin", 1),  # 40 days ago, and an order counts for a year
        ("takes_antibiotics", 0),  # 45 days ago, and a course counts for 30 days
        ("antibiotics_count_2y", 1),
        ("icd10cm_r05_count_2y", 2),  # R05.1 and R05.9
        ("icd10cm_chapter_18_symptoms_count_2y", 3),  # and R11.2
        ("hba1c_last", 7),
        ("hba1c_mean_180d", 7),
        ("hba1c_min_2y", 6),
        ("hba1c_max_30d", 7),
        ("hba1c_count_1y", 1),  # the one 365.25 days ago is too old
        ("hba1c_sd_2y", 0.707107),  # of 6 and 7: the square root of 2 x 0.5 x 0.5
        ("systolic_bp_sd_2y", None),
        ("hba1c_mean_2y", 6.5),
        ("hba1c_slope_2y", 1),  # one per cent in 365.25 days
        ("systolic_bp_days_since", 10),
        ("systolic_bp_slope_2y", None),
    ],
)
def test_features_by_hand(feature, expected):
    assert features()[feature] == (expected and pytest.approx(expected, rel=1e-5))


def test_every_column_has_words_and_the_right_unit():
    assert PLAN["description"].str.len_chars().min() > 10
    assert PLAN["feature"].is_unique().all()
    units = dict(PLAN.select("feature", "unit").iter_rows())
    assert units["hba1c_mean_2y"] == "%"
    assert units["hba1c_slope_2y"] == "%/a"
    assert units["hba1c_count_1y"] is None
    assert units["hba1c_days_since"] == "d"


def test_neither_death_nor_race_nor_record_length_is_read():
    read = PLAN["codes"].explode().drop_nulls()
    assert not read.str.contains("MEDS_|RACE|ETHNICITY").any()
    assert set(PLAN.filter(pl.col("window_days").is_null())["kind"]) == {"demographic", "state"}
    assert set(PLAN["window_days"].drop_nulls()) == {30, 180, 365, 730}


def test_no_window_is_longer_than_the_look_back_of_the_study():
    short = plan_columns([EVENTS], times(NOON), StudySettings(lookback_days=90))
    short = short.filter(pl.col("kind") != "clinical_score")  # a published score keeps its own
    assert set(short["window_days"].drop_nulls()) == {30, 90}
    assert short["feature"].is_unique().all()


def test_what_says_nothing_on_train_rows_is_no_column():
    # At noon and 200 days later the sex, the diabetes and the emergency visits of 2 years stay the same.
    plan = plan_features([EVENTS], times(NOON, day(200)), STUDY)
    assert set(plan["feature"]) < set(PLAN["feature"])
    assert {"is_female", "acute_sinusitis_count_180d"} <= set(plan["feature"])
    assert not {"has_type_2_diabetes", "visits_emergency_2y", "systolic_bp_slope_2y"} & set(plan["feature"])


def test_nothing_known_is_zero_or_null():
    found = build_features(EVENTS, times(NOON, subject_id=9), PLAN).row(0, named=True)
    counts = PLAN.filter(pl.col("statistic").is_in(["count", "is_present", "sum_of_stays"]))["feature"]
    assert {found[name] for name in counts} == {0}
    assert {found[name] for name in PLAN["feature"] if name not in set(counts)} == {None}


def test_ages_above_90_are_90():
    assert features(events_table(*person(born=datetime(1910, 1, 1))))["age_years"] == 90


def test_columns_are_named_after_the_wording_of_the_source_when_it_is_given():
    codes = pl.DataFrame({"code": ["RXNORM//999"], "description": ["Aspirin 81 MG Oral Tablet (substance)"]})
    named = plan_columns([EVENTS], times(NOON), STUDY, codes).filter(feature="aspirin_81_mg_oral_tablet_999_count_2y")
    assert named["codes"].item().to_list() == ["RXNORM//999"]
    assert named["description"].item() == "Aspirin 81 MG Oral Tablet (substance): records in the last 730 days"


def test_values_in_several_units_make_no_column():
    mixed = [happened("LOINC//1", -3, 5), happened("LOINC//1", -2, 5) | {"unit": "mg/dL"}, happened("LOINC//2", -2, 5)]
    codes = plan_columns([events_table(*person(), *mixed)], times(NOON), STUDY).filter(kind="value")["codes"]
    assert set(codes.explode()) == {"LOINC//2"}


def test_the_table_is_sorted_distinct_and_typed():
    asked = pl.concat([times(day(10), NOON, NOON), times(NOON, subject_id=0)])
    table = build_features(EVENTS, asked, PLAN)
    assert table.select("subject_id", "prediction_time").rows() == [(0, NOON), (1, NOON), (1, day(10))]
    assert table.columns == ["subject_id", "prediction_time", *PLAN["feature"]]
    assert set(table.drop("subject_id", "prediction_time").dtypes) == {pl.Float32}


def test_no_prediction_times_give_an_empty_table():
    assert build_features(EVENTS, times(), PLAN).shape == (0, 2 + PLAN.height)
    assert plan_features([EVENTS], times(), STUDY).height > 0


def test_records_behind_are_the_newest_of_the_window_known_in_time():
    position = {id(row): place for place, row in enumerate(HISTORY, start=1)}
    sinusitis = [position[id(row)] for row in HISTORY if row.get("code") == SINUSITIS]
    diabetes = [position[id(row)] for row in HISTORY if row.get("code") == DIABETES]
    asked = [
        ("years_since_type_2_diabetes", NOON),
        ("acute_sinusitis_count_2y", NOON),
        ("acute_sinusitis_count_180d", NOON),
        ("age_years", NOON),
    ]
    rows = pl.DataFrame(
        [(1, at, feature) for feature, at in asked],
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "feature": pl.String},
        orient="row",
    )
    found = records_behind(EVENTS, rows, PLAN)
    assert found["feature"].to_list() == [feature for feature, _ in asked]
    assert found["record_ids"].to_list() == [[diabetes[0]], [sinusitis[1], sinusitis[0]], [sinusitis[1]], []]
    assert records_behind(EVENTS, rows, PLAN, at_most=1)["record_ids"].to_list()[1] == [sinusitis[1]]


def test_a_canary_a_minute_later_is_invisible():
    read = EVERYTHING["codes"].explode().drop_nulls().str.strip_suffix("*").unique()
    minute = 1 / 1440
    canaries = [happened(code, on, 99, known=minute) for code in [*read, DEATH] for on in (minute, -1)]
    assert_frame_equal(
        build_features(EVENTS, times(NOON), EVERYTHING),
        build_features(events_table(*HISTORY, *canaries), times(NOON), EVERYTHING),
    )
    rows = times(NOON).join(EVERYTHING.select("feature"), how="cross")
    assert_frame_equal(
        records_behind(EVENTS, rows, EVERYTHING), records_behind(events_table(*HISTORY, *canaries), rows, EVERYTHING)
    )


codes = st.sampled_from([HBA1C, SYSTOLIC, DIABETES, SINUSITIS, "ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end", DEATH])
record = st.tuples(codes, st.integers(-900, 900), st.integers(1, 900), st.floats(1, 200, width=16), st.integers(0, 4))


def drawn(records: list[tuple[str, int, int, float, int]]) -> list[dict[str, object]]:
    """Records that become known 1 to 900 days after noon, whenever they happened."""
    return [
        happened(code, min(on, known), number, known) | {"encounter_id": encounter_id}
        for code, on, known, number, encounter_id in records
    ]


@settings(max_examples=50, deadline=None)
@given(future=st.lists(record, max_size=6), other=st.lists(record, max_size=6))
def test_what_becomes_known_later_changes_no_feature(future, other):
    one = events_table(*HISTORY, *drawn(future))
    another = events_table(*HISTORY, *drawn(other))
    assert_frame_equal(
        build_features(one, times(NOON), PLAN), build_features(another, times(NOON), PLAN), check_exact=True
    )


@settings(max_examples=50, deadline=None)
@given(past=st.lists(record, min_size=2, max_size=12), seed=st.integers(0, 99))
def test_the_order_of_events_changes_nothing(past, seed):
    # Few distinct days, so that many events share a moment.
    rows = [
        happened(code, -(abs(on) % 4) * 200, number) | {"encounter_id": encounter_id}
        for code, on, _, number, encounter_id in past
    ]
    table = events_table(*HISTORY, *rows).collect()
    order = list(range(table.height))
    random.Random(seed).shuffle(order)
    asked = times(NOON, NOON - timedelta(days=200))
    assert_frame_equal(
        build_features(table.lazy(), asked, PLAN), build_features(table[order].lazy(), asked, PLAN), check_exact=True
    )
