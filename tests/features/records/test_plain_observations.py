"""The short cut for plain observations gives the very rows of the long way."""

from hypothesis import given, settings
from hypothesis import strategies as st

from features.privacy.keys import derive_keys
from features.privacy.rules import load_rules
from features.records import plain_observations
from features.records.events import read_record
from features.records.frames import frames_of
from features.records.resources import (
    CodeableConcept,
    Coding,
    Component,
    Encounter,
    Meta,
    Observation,
    Period,
    Quantity,
    Reference,
)
from features.records.rows import Rows, Unreadable

KEY = derive_keys(b"k" * 32)
SYSTOLIC = CodeableConcept(coding=(Coding("http://loinc.org", "8480-6", "Systolic"),))
OTHERS = [CodeableConcept(coding=(Coding("http://loinc.org", "4548-4", "A1c"),)), CodeableConcept(), None]
FULL = ["2020-03-01T10:00:00Z", "2020-03-01T10:00:00.500+00:00"]

observations = st.builds(
    Observation,
    id=st.sampled_from(["a", "b", None]),
    meta=st.sampled_from([None, Meta(), Meta(versionId="3")]),
    status=st.sampled_from(["final", "final", "entered-in-error", "cancelled", None]),
    code=st.sampled_from([SYSTOLIC, SYSTOLIC, *OTHERS]),
    subject=st.sampled_from([Reference("Patient/1"), Reference("Patient/2"), Reference(), None]),
    encounter=st.sampled_from([Reference("Encounter/1"), None]),
    context=st.sampled_from([Reference("Encounter/2"), None]),
    effectiveDateTime=st.sampled_from([*FULL, "2020-03-01", "2020", None]),
    effectivePeriod=st.sampled_from([None, Period(start=FULL[0])]),
    issued=st.sampled_from([*FULL, "2020-03-02", None]),
    valueQuantity=st.sampled_from(
        [Quantity(120, "mmHg"), Quantity(120.5, "x", "mm[Hg]"), Quantity(5, "%", comparator="<"), Quantity(), None]
    ),
    valueInteger=st.sampled_from([None, 3]),
    component=st.sampled_from([(), (), (Component(code=SYSTOLIC, valueQuantity=Quantity(90)),)]),
)


def the_long_way(records: list[Observation], rows: Rows) -> None:
    for position, record in enumerate(records):
        read(position, record, rows)


def the_short_cut(records: list[Observation], rows: Rows) -> int:
    left = plain_observations.add_plain_observations(records, range(len(records)), rows)
    return sum(1 for position, record in left if read(position, record, rows) or True)


def read(position: int, record: Observation, rows: Rows) -> None:
    try:
        read_record(record, position, rows)
    except Unreadable:
        rows.note("refused")


@given(st.lists(observations, min_size=50, max_size=80))
@settings(max_examples=60, deadline=None)
def test_both_ways_give_the_same_rows(records):
    long, short = Rows(KEY, load_rules()), Rows(KEY, load_rules())
    the_long_way(records, long)
    the_short_cut(records, short)
    for ours, theirs in zip(frames_of(short), frames_of(long), strict=True):
        assert ours.equals(theirs)
    assert short.findings == long.findings


def test_most_plain_observations_take_the_short_cut():
    records = [
        Observation(
            id=str(number),
            status="final",
            code=SYSTOLIC,
            subject=Reference("Patient/1"),
            encounter=Reference("Encounter/1"),
            effectiveDateTime=FULL[0],
            issued=FULL[1],
            valueQuantity=Quantity(float(number), "mmHg"),
        )
        for number in range(100)
    ]
    rows = Rows(KEY, load_rules())
    assert the_short_cut(records, rows) == 1  # the first, which fills the caches
    assert len(rows.records) == 100


def test_other_resources_are_left_alone():
    records = [Encounter(id=str(number)) for number in range(60)]
    rows = Rows(KEY, load_rules())
    assert len(list(plain_observations.add_plain_observations(records, range(60), rows))) == 60
