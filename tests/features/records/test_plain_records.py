"""The short cut for plain records gives the very rows of the long way."""

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.privacy import rules as privacy_rules
from features.privacy.keys import derive_keys
from features.privacy.rules import load_rules
from features.records import blocks, landing, plain_forms
from features.records.blocks import blocks_of_lines
from features.records.facts import Facts
from features.records.frames import frames_of
from features.records.plain_forms import ELEMENTS
from features.records.rows import Rows

KEY = derive_keys(b"k" * 32)


def concept(code: str, system: str = "http://loinc.org", **more: object) -> dict:
    return {"coding": [{"system": system, "code": code, "display": "A display"}], **more}


DATES = ["2020-03-01T10:00:00Z", "2020-03-01T10:00:00.500+02:00", "2020-03-01", "2020", "", "tomorrow", None]
CONCEPTS = [concept("8480-6"), concept("4548-4", text="A1c"), {"text": "words alone"}, {"coding": []}, {}, None]
LISTS = [[concept("1")], [concept("1"), concept("2")], [{"text": "x"}, concept("3"), {}], [], None]
PERIODS = [{"start": DATES[0], "end": "2020-03-02T10:00:00Z"}, {"start": DATES[2]}, {"end": DATES[0]}, {}, None]
SUBJECTS = [
    {"reference": "Patient/1"},
    {"reference": "Patient/2", "display": "x"},
    {"reference": "https://server/fhir/Patient/1"},
    {"reference": "urn:uuid:1"},
    {"reference": "Patient?identifier=https://one.example|7"},
    {"reference": "Group/3"},
    {"display": "nobody"},
    None,
]
VISITS = [
    {"reference": "Encounter/1"},
    {"reference": "urn:uuid:e"},
    {"reference": "Encounter?identifier=https://one.example|7"},
    {},
    None,
]
QUANTITIES = [
    {"value": 120, "unit": "mm[Hg]"},
    {"value": 1.5, "unit": "x", "code": "%"},
    {"value": 5, "comparator": "<"},
    {"unit": "%"},
    {"value": 7, "unit": None},
    {"value": "7"},
    None,
]
COMPONENTS = [
    {"code": concept("8480-6"), "valueQuantity": QUANTITIES[0]},
    {"code": concept("8462-4"), "valueQuantity": {"value": 70, "unit": "mm[Hg]"}},
    {"code": concept("8462-4"), "valueCodeableConcept": concept("1")},
    {"code": concept("8462-4"), "valueInteger": 3},
    {"code": concept("8462-4"), "dataAbsentReason": concept("unknown")},
    {"code": {}, "valueQuantity": QUANTITIES[0]},
    {"valueQuantity": QUANTITIES[2]},
]
VERIFIED = [concept("confirmed"), concept("refuted"), "entered-in-error", {}, None]

# Values of an element, the plain ones first.
VALUES: dict[str, list] = {
    "id": ["a", "b", "urn:uuid:c", "d/e", "f?g", "", None],
    "meta": [None, {}, {"versionId": "3"}, {"lastUpdated": DATES[0]}, {"lastUpdated": DATES[2], "versionId": "x"}],
    "status": ["final", "finished", "completed", "entered-in-error", "cancelled", "not-done", "planned", "", None],
    "class": [{"code": "AMB"}, {"code": "IMP"}, {"code": "odd"}, {}, None],
    "type": LISTS,
    "priority": CONCEPTS,
    "category": LISTS,
    "reasonCode": LISTS,
    "reason": LISTS,
    "hospitalization": [{"dischargeDisposition": concept("home")}, {}, None],
    "serviceProvider": [
        {"reference": "Organization/1"},
        {"reference": "Organization?identifier=https://one.example|7"},
        {"reference": "Practitioner/1"},
        {"display": "x"},
        None,
    ],
    "subject": SUBJECTS,
    "patient": SUBJECTS,
    "encounter": VISITS,
    "context": VISITS,
    "verificationStatus": VERIFIED,
    "valueQuantity": QUANTITIES,
    "valueCodeableConcept": CONCEPTS,
    "valueInteger": [3, None],
    "valueBoolean": [True, None],
    "valueString": ["Yes", "anything", None],
    "component": [COMPONENTS[:2], *([one] for one in COMPONENTS), [], None],
    "medicationReference": [{"reference": "Medication/1"}, {"reference": "#drug"}, None],
    "contained": [
        [{"resourceType": "Medication", "id": "drug", "code": concept("1", "rxnorm")}],
        [],
        None,
    ],
    "doNotPerform": [True, False, None],
    "wasNotGiven": [True, False, None],
    "primarySource": [True, None],
    "intent": ["order", "plan", None],
}
VALUES |= dict.fromkeys(("code", "vaccineCode", "medicationCodeableConcept"), CONCEPTS)
VALUES |= dict.fromkeys(("period", "performedPeriod", "effectivePeriod", "onsetPeriod", "occurrencePeriod"), PERIODS)
USUAL = frozenset({"id", "status", "class", "subject", "patient", "encounter", "code", "vaccineCode"}) | {
    name for elements in ELEMENTS.values() for ours, name in elements.items() if not ours.endswith("_before")
}


@st.composite
def a_record(draw: st.DrawFn) -> dict:
    """A record of any type with a plain form: most parts plain, a few odd, missing or null."""
    kind = draw(st.sampled_from(sorted(ELEMENTS)))
    record = {"resourceType": kind}
    for element in ["id", *sorted(load_rules().elements[kind] | {"language"})]:
        values = VALUES.get(element, DATES)
        luck = draw(st.integers(0, 19))
        if element in USUAL and luck < 17:
            record[element] = values[0]
        elif luck == 19 or (luck > 16 and element in USUAL):
            record[element] = draw(st.sampled_from(values))
    return record


def text_of(records: list[dict]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def read(text: bytes, *, by_short_cut: bool) -> tuple[Rows, Facts, int]:
    """The rows, what was found beside them, and how many records the short cut took."""
    rows, taken = Rows(KEY, load_rules()), 0
    with pytest.MonkeyPatch.context() as patch:
        if not by_short_cut:
            patch.setattr(landing, "add_plain_records", lambda records, positions, rows: range(len(records)))
        for block in blocks_of_lines(0, text, ""):
            before = len(rows.records)
            if by_short_cut:
                left = landing.add_plain_records(block.records, block.positions, Rows(KEY, load_rules()))
                taken += len(block.records) - len(left)
            landing._read_block(block, rows)
            assert before <= len(rows.records)
    return rows, rows.facts, taken


def tables(rows: Rows) -> list[pl.DataFrame]:
    return [table.sort(pl.all()) for table in frames_of(rows)]


def assert_both_ways_agree(text: bytes) -> int:
    short, short_facts, taken = read(text, by_short_cut=True)
    long, long_facts, _ = read(text, by_short_cut=False)
    for ours, theirs in zip(tables(short), tables(long), strict=True):
        assert ours.equals(theirs)
    short_facts.medications.sort()
    long_facts.medications.sort()
    assert short_facts == long_facts
    return taken


@given(st.lists(a_record(), min_size=20, max_size=40))
@settings(max_examples=150, deadline=None)
def test_both_ways_give_the_same_rows(records):
    assert_both_ways_agree(text_of(records))


@pytest.mark.parametrize("kind", sorted(ELEMENTS))
def test_each_odd_value_in_an_otherwise_plain_record_gives_the_same_rows(kind):
    plain = plain_record(kind)
    records = [plain]
    for element in sorted(load_rules().elements[kind] | {"id"}):
        for value in VALUES.get(element, DATES):
            records.append(plain | {"id": f"{element}-{len(records)}", element: value})
    taken = assert_both_ways_agree(text_of(records))
    assert taken >= 3


@pytest.mark.parametrize("kind", sorted(ELEMENTS))
def test_plain_records_take_the_short_cut(kind):
    records = [plain_record(kind) | {"id": str(number)} for number in range(50)]
    assert read(text_of(records), by_short_cut=True)[2] == 50


def test_the_short_cut_reads_no_element_off_the_allow_list(monkeypatch):
    full = load_rules()
    fewer = full.elements | {"Observation": full.elements["Observation"] - {"issued", "valueCodeableConcept"}}
    line = text_of([plain_record("Observation") | {"issued": DATES[0], "valueCodeableConcept": concept("1")}])
    for module in (plain_forms, blocks, privacy_rules):
        monkeypatch.setattr(module, "load_rules", lambda: replace(full, elements=fewer))
    plain_forms.forms_decoder.cache_clear()
    try:
        record = plain_forms.forms_decoder().decode(line)
        assert (record.known, record.answer) == (None, None)
        assert record.quantity.value == 120
    finally:
        plain_forms.forms_decoder.cache_clear()


def plain_record(kind: str) -> dict:
    """A record with every usual part, as most of any source are."""
    names = {name for ours, name in ELEMENTS[kind].items() if not ours.endswith("_before")}
    names -= {"valueCodeableConcept", "component"}
    if "performedDateTime" in names or "effectiveDateTime" in names:
        names -= {"performedPeriod", "effectivePeriod"}
    record = {"resourceType": kind, "id": "a"}
    return record | {name: VALUES.get(name, DATES)[0] for name in sorted(names)}
