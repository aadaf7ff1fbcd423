"""Whatever is known after a prediction time, all features stay bit for bit the same, clinical scores too."""

from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.feature_plan import plan_columns
from features.feature_tables import build_features
from features.integrity import CANARIES_AFTER
from features.settings import StudySettings
from tests.features.small_events import NOON, day, events_table, person, times, visit

VALUES = {"LOINC//8480-6": "mm[Hg]", "LOINC//2160-0": "mg/dL", "LOINC//4548-4": "%", "LOINC//39156-5": "kg/m2"}
# Heart failure, type 2 diabetes, hypertension, metformin, a hospital stay, an emergency visit.
CODES = ["SNOMED//88805009", "SNOMED//44054006", "SNOMED//38341003", "RXNORM//6809"]
CODES += ["ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end", "ENCOUNTER//EMER//start"]
EVERY = [*VALUES, *CODES]

fact = st.tuples(st.sampled_from(EVERY), st.integers(0, 1200), st.floats(1, 200, width=32))
late_fact = st.tuples(
    st.sampled_from([*EVERY, "MEDS_DEATH", "SNOMED//999999999"]),
    st.one_of(st.none(), st.integers(0, 1200)),  # happened when it became known, or so many days before
    st.sampled_from(CANARIES_AFTER),
    st.floats(1, 200, width=32),
)


def happened(code: str, time, number: float) -> dict[str, object]:
    value = {"numeric_value": number, "unit": VALUES[code]} if code in VALUES else {}
    return {"time": time, "code": code, "encounter_id": 7} | value


def later(facts) -> list[dict[str, object]]:
    return [
        happened(code, NOON + after if days is None else day(-days), number) | {"known_time": NOON + after}
        for code, days, after, number in facts
    ]


KNOWN = [*person(), *visit(day(-2)), *[happened(code, day(-300 - n), 50.0 + n) for n, code in enumerate(EVERY)]]
DEFINITIONS = plan_columns([events_table(*KNOWN)], times(NOON), StudySettings())


def test_the_plan_has_every_kind_of_column():
    kinds = {"demographic", "state", "count", "utilisation", "value", "clinical_score"}
    assert kinds <= set(DEFINITIONS["kind"])
    table = build_features(events_table(*KNOWN), times(NOON), DEFINITIONS)
    assert table.select(pl.col("^score_.*$").is_not_null()).sum_horizontal().item() > 3


@settings(max_examples=30)
@given(past=st.lists(fact, max_size=8), future=st.lists(late_fact, max_size=8), other=st.lists(late_fact, max_size=8))
def test_adding_changing_or_removing_what_is_known_later_changes_no_feature(past, future, other):
    """Three people with one past: nothing follows for the first, and different things for the others."""
    known = [*KNOWN, *(happened(code, day(-days), number) for code, days, number in past)]
    rows = [
        row | {"subject_id": subject}
        for subject, facts in ((1, []), (2, future), (3, other))
        for row in [*known, *later(facts)]
    ]
    asked = pl.concat([times(NOON, subject_id=subject) for subject in (1, 2, 3)])
    table = build_features(events_table(*rows), asked, DEFINITIONS).drop("subject_id")
    for place in (1, 2):
        assert_frame_equal(table[0], table[place], check_exact=True)


def test_what_is_known_at_the_very_moment_is_seen():
    """So that the test above tests something: the same facts, known in time, change the features."""
    facts = [(code, 1, timedelta(0), 99.0) for code in EVERY]
    alone = build_features(events_table(*KNOWN), times(NOON), DEFINITIONS)
    assert not build_features(events_table(*KNOWN, *later(facts)), times(NOON), DEFINITIONS).equals(alone)
