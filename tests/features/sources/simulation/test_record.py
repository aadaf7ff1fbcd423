"""A record is in order, and it is not the truth."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from features.sources.simulation.lives import live
from features.sources.simulation.record import AMBULATORY, Recorder
from features.sources.simulation.world import World
from features.sources.simulation.writing import write_block
from tests.features.sources.simulation.conftest import SEED, Block, Json

Moments = dict[str, datetime]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture(scope="module")
def died(resources: dict[str, list[Json]]) -> Moments:
    dead = (one for one in resources["Patient"] if "deceasedDateTime" in one)
    return {f"Patient/{one['id']}": moment(one["deceasedDateTime"]) for one in dead}


@pytest.fixture(scope="module")
def visits(resources: dict[str, list[Json]]) -> dict[str, Json]:
    return {f"Encounter/{one['id']}": one for one in resources["Encounter"]}


def is_inside(visit: Json, first: datetime, last: datetime) -> bool:
    period = visit["period"]
    return moment(period["start"]) <= first <= last and ("end" not in period or last <= moment(period["end"]))


def test_what_happens_at_a_visit_lies_inside_it(resources: dict[str, list[Json]], visits: dict[str, Json]) -> None:
    for one in resources["Observation"]:
        taken = moment(one["effectiveDateTime"])
        assert is_inside(visits[one["encounter"]["reference"]], taken, taken)
    for one in resources["Procedure"]:
        period = one["performedPeriod"]
        assert is_inside(visits[one["encounter"]["reference"]], moment(period["start"]), moment(period["end"]))
    for kind, name in (
        ("Condition", "recordedDate"),
        ("MedicationRequest", "authoredOn"),
        ("Immunization", "occurrenceDateTime"),
    ):
        for one in resources[kind]:
            assert is_inside(visits[one["encounter"]["reference"]], moment(one[name]), moment(one[name]))


def test_what_is_known_is_known_after_it_happened(resources: dict[str, list[Json]]) -> None:
    waits = defaultdict(list)
    for one in resources["Observation"]:
        wait = moment(one["issued"]) - moment(one["effectiveDateTime"])
        assert wait >= timedelta(0)
        waits[one["category"][0]["coding"][0]["code"]].append(wait)
    assert max(waits["vital-signs"]) == timedelta(0)
    assert np.median(waits["laboratory"]) > timedelta(hours=1)
    for one in resources["Condition"]:
        assert moment(one["onsetDateTime"]) <= moment(one["recordedDate"])
    results = {f"Observation/{one['id']}": one for one in resources["Observation"]}
    for report in resources["DiagnosticReport"]:
        of = [results[one["reference"]] for one in report["result"]]
        assert moment(report["issued"]) == max(moment(one["issued"]) for one in of)
        assert {one["encounter"]["reference"] for one in of} == {report["encounter"]["reference"]}


def test_nothing_happens_after_death(resources: dict[str, list[Json]], died: Moments) -> None:
    assert len(died) > 20
    late = datetime.max.replace(tzinfo=next(iter(died.values())).tzinfo)
    for of in resources.values():
        for one in of:
            end = died.get(one.get("subject", one.get("patient", {})).get("reference"), late)
            period = one.get("period", one.get("performedPeriod", {}))
            names = ("effectiveDateTime", "authoredOn", "occurrenceDateTime", "recordedDate", "abatementDateTime")
            assert all(
                moment(text) <= end for text in [*period.values(), *(one[name] for name in names if name in one)]
            )


def test_who_moves_away_is_seen_no_more_and_the_address_says_so(block: Block, resources: dict[str, list[Json]]) -> None:
    left = {
        f"Patient/{one['id']}": moment(one["address"][0]["period"]["end"])
        for one in resources["Patient"]
        if "period" in one["address"][0]
    }
    gone = block.gone & ~block.died  # by month; the moves of the last two may come after the end of the records
    assert 20 < gone[:, -3].sum() <= len(left) <= gone[:, -1].sum()
    for one in resources["Encounter"]:
        assert (
            one["subject"]["reference"] not in left or moment(one["period"]["end"]) < left[one["subject"]["reference"]]
        )


def test_encounters_of_a_person_follow_each_other(resources: dict[str, list[Json]], died: Moments) -> None:
    by_person = defaultdict(list)
    for one in resources["Encounter"]:
        by_person[one["subject"]["reference"]].append(one)
    nights = 0
    for person, of in by_person.items():
        of.sort(key=lambda one: one["period"]["start"])
        for one, following in pairwise(of):
            assert moment(one["period"]["start"]) < moment(one["period"]["end"]) < moment(following["period"]["start"])
        for one in of:
            ending = one.get("hospitalization", {}).get("dischargeDisposition", {}).get("coding", [{}])[0].get("code")
            if ending == "20":
                assert died[person] == moment(one["period"]["end"])
            elif ending:
                nights += not 9 <= moment(one["period"]["end"]).hour <= 20
    assert nights == 0


def test_offices_are_closed_at_the_weekend(resources: dict[str, list[Json]]) -> None:
    begun = [
        datetime.fromisoformat(one["period"]["start"])
        for one in resources["Encounter"]
        if one["class"]["code"] == "AMB"
    ]
    assert {moment.weekday() for moment in begun} == {0, 1, 2, 3, 4}
    assert all(8 <= moment.hour < 17 for moment in begun)


def test_nobody_is_older_than_life_nor_younger_than_twenty(resources: dict[str, list[Json]]) -> None:
    first: dict[str, str] = {}
    for one in resources["Encounter"]:
        person, start = one["subject"]["reference"], one["period"]["start"]
        first[person] = min(start, first.get(person, start))
    births = {f"Patient/{one['id']}": moment(f"{one['birthDate']}T00:00:00+00:00") for one in resources["Patient"]}
    ages = np.array([(moment(start) - births[person]).days / 365.25 for person, start in first.items()])
    assert ages.min() >= 20
    assert ages.max() < 110
    assert 40 < ages.mean() < 60


def test_values_lie_where_such_results_can(resources: dict[str, list[Json]]) -> None:
    values = defaultdict(list)
    for one in resources["Observation"]:
        if "component" in one:
            systolic, diastolic = (part["valueQuantity"]["value"] for part in one["component"])
            assert systolic >= diastolic + 9  # ten, before both are rounded
        elif "valueQuantity" in one:
            values[one["code"]["text"]].append(one["valueQuantity"]["value"])
    bounds = {
        "Total score [MMSE]": (0, 30),
        "Patient Health Questionnaire 9 item (PHQ-9) total score [Reported]": (0, 27),
        "Oxygen saturation in Arterial blood": (60, 100),
        "Body temperature": (33, 43),
        "Sodium [Moles/volume] in Serum or Plasma": (110, 165),
        "Hemoglobin A1c/Hemoglobin.total in Blood": (3.5, 20),
        "Creatinine [Mass/volume] in Serum or Plasma": (0.05, 25),
    }
    for name, (low, high) in bounds.items():
        assert values[name]
        assert low <= min(values[name]) <= max(values[name]) <= high, name


def test_some_illness_is_unknown_and_some_known_is_none(world: World, block: Block) -> None:
    has, known = block.people.has, block.people.known
    hypertension, diabetes = world.conditions.index("hypertension"), world.conditions.index("type_2_diabetes")
    assert (has[hypertension] & ~known[hypertension]).any()
    assert (has[diabetes] & ~known[diabetes]).any()
    assert (has[diabetes] & known[diabetes]).sum() > (has[diabetes] & ~known[diabetes]).sum()
    named = [world.conditions.index(name) for name in world.conditions if "code" in world.raw["conditions"][name]]
    assert (known[named] & ~has[named]).any()
    hidden, acute = (world.conditions.index(name) for name in ("alzheimer_pathology", "copd_exacerbation"))
    assert has[hidden].any()
    assert not known[hidden].any()
    assert not known[acute].any()  # it passes with its stay


def test_what_clinicians_know_is_what_stands_in_the_record(world: World, block: Block) -> None:
    conditions = block.tables["Condition"]
    written = np.zeros_like(block.people.known)
    written[conditions["code"] % len(world.conditions), conditions["patient"]] = True
    visits = block.tables["Encounter"]
    has_visits = np.isin(np.arange(512), visits["patient"][visits["kind"] == AMBULATORY])
    for i, name in enumerate(world.conditions):
        one = world.raw["conditions"][name]
        if "code" in one and not world.passes[i]:
            assert not (written[i] & ~block.people.known[i] & block.people.alive).any() or "stay" in one, name
            assert not (block.people.known[i] & ~written[i] & has_visits & block.people.alive).any(), name


def test_icd_10_stands_only_where_the_site_writes_it(
    world: World, resources: dict[str, list[Json]], visits: dict[str, Json]
) -> None:
    writes_icd = {site["name"]: site["icd"] for site in world.raw["care"]["sites"]}
    systems = defaultdict(set)
    for one in resources["Condition"]:
        site = visits[one["encounter"]["reference"]]["serviceProvider"]["display"]
        systems[writes_icd[site]].add(one["code"]["coding"][0]["system"])
    assert systems == {True: {"http://hl7.org/fhir/sid/icd-10-cm"}, False: {"http://snomed.info/sct"}}


def test_sites_spell_results_in_their_own_way(
    world: World, resources: dict[str, list[Json]], visits: dict[str, Json]
) -> None:
    spelling = {site["name"]: site["spelling"] for site in world.raw["care"]["sites"]}
    codes = [code for code, *_ in world.raw["measurements"]["creatinine"]["codes"]]
    seen = set()
    for one in resources["Observation"]:
        code = one["code"]["coding"][0]["code"]
        if code in codes:
            site = visits[one["encounter"]["reference"]]["serviceProvider"]["display"]
            assert codes.index(code) == spelling[site]
            seen.add(code)
    assert seen == set(codes)


def test_who_arrives_brings_a_history_once(resources: dict[str, list[Json]], visits: dict[str, Json]) -> None:
    problems = defaultdict(list)
    for one in resources["Condition"]:
        if one["category"][0]["coding"][0]["code"] == "problem-list-item":
            problems[one["subject"]["reference"], one["code"]["text"]].append(one)
    # Entered again is only what had been written off.
    assert all("abatementDateTime" in one for of in problems.values() for one in of[:-1])
    old = [of[0] for of in problems.values() if of[0]["onsetDateTime"] < of[0]["recordedDate"]]
    assert len(old) > 100
    first = defaultdict(lambda: "9999")
    for one in visits.values():
        if one["class"]["code"] != "EMER" and "end" in one["period"]:
            person = one["subject"]["reference"]
            first[person] = min(first[person], one["period"]["start"])
    for one in old:
        years = (moment(one["recordedDate"]) - moment(one["onsetDateTime"])).days / 365.25
        assert 0.49 < years < 10.01


def test_acute_illness_is_written_off_what_passed_at_a_visit_and_chronic_illness_never(
    resources: dict[str, list[Json]], visits: dict[str, Json]
) -> None:
    acute, passing = (
        ("neumonia", "epsis", "racture", "xacerbation"),
        ("epress", "besity", "igarette", "okes", "redia", "lcer"),
    )
    passed = Counter[bool]()
    for one in resources["Condition"]:
        name = one["code"]["text"]
        if any(word in name for word in acute):
            if "abatementDateTime" in one:
                assert moment(one["abatementDateTime"]) - moment(one["onsetDateTime"]) == timedelta(days=60)
        elif any(word in name for word in passing):
            passed["abatementDateTime" in one] += 1
        else:
            assert "abatementDateTime" not in one, name
    assert min(passed.values()) > 50
    depressed = {
        one["subject"]["reference"]
        for one in resources["Condition"]
        if "epress" in one["code"]["text"] and "abatementDateTime" not in one
    }
    assert 0.03 < len(depressed) / len(resources["Patient"]) < 0.20  # PHQ-9 of 10 or more: 8 % at a time


def test_what_is_not_done_when_the_records_end_is_not_in_them(world: World) -> None:
    recorder = Recorder(world, SEED, 0)
    for month, people, happened, who in live(world, SEED, 0):
        recorder.write(month, people, happened, who)
    begun = int(np.median(recorder.rows["Procedure"].done()["time"]))
    texts = write_block(world, recorder, SEED, 0, 512, begun + 5)  # five minutes into a procedure of ten
    until = np.datetime64(world.begin, "m") + begun + 5
    ends = [msgspec.json.decode(line)["performedPeriod"]["end"] for _, line in texts["Procedure"]]
    assert len(ends) > 1000
    assert max(np.datetime64(end.removesuffix("+00:00")) for end in ends) <= until


def test_prescriptions_are_active_for_ten_months(world: World, resources: dict[str, list[Json]]) -> None:
    end = datetime.fromisoformat(f"{world.end}T23:59:59+00:00")
    for one in resources["MedicationRequest"]:
        lasts_until = moment(one["authoredOn"]) + 10 * timedelta(minutes=43_830)
        assert (one["status"] == "active") == (lasts_until > end - timedelta(minutes=1))
    assert {one["status"] for one in resources["MedicationRequest"]} == {"active", "completed"}
