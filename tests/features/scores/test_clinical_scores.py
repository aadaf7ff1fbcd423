"""From events to scores: what is found, in which unit, from which record, and what its absence does."""

from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.codes import groups_of_codes
from features.feature_plan import plan_columns
from features.feature_tables import build_features, records_behind
from features.integrity import count_rows_that_see_the_future
from features.scores.engine import clinical_scores
from features.scores.registry import SCORES, answerable
from features.settings import StudySettings
from features.tables import ClinicalScores
from tests.features.small_events import NOON, day, events_table, person, times, visit

CREATININE, SYSTOLIC, HAEMOGLOBIN, SODIUM = "LOINC//2160-0", "LOINC//8480-6", "LOINC//718-7", "LOINC//2951-2"
RESPIRATION, SATURATION, PULSE, TEMPERATURE = "LOINC//9279-1", "LOINC//59408-5", "LOINC//8867-4", "LOINC//8310-5"
VITALS = {RESPIRATION: (18, "/min"), SATURATION: (96, "%"), SYSTOLIC: (120, "mm[Hg]"), PULSE: (75, "/min")}


def happened(
    code: str, on: float, number: float | None = None, unit: str | None = None, known: float | None = None
) -> dict[str, object]:
    known_time = day(on if known is None else known)
    return {"time": day(on), "known_time": known_time, "code": code, "numeric_value": number, "unit": unit}


def scored(name: str, *events: dict[str, object], at: datetime = NOON) -> dict[str, object] | None:
    """The row of a score for person 1; None when there is none."""
    table = clinical_scores(events_table(*events), times(at), [name])
    assert table.height <= 1
    return table.row(0, named=True) if table.height else None


def input_of(row: dict[str, object] | None, name: str) -> dict[str, object]:
    assert row is not None
    return next(one for one in row["inputs"] if one["input"] == name)


def vitals(hours: float = 1, without: str | None = None, temperature: float = 37.0) -> list[dict[str, object]]:
    measured = VITALS | {TEMPERATURE: (temperature, "Cel")}
    return [happened(code, -hours / 24, *number) for code, number in measured.items() if code != without]


def stay(days: float = 3, encounter_id: int = 7) -> list[dict[str, object]]:
    """A stay that ends at noon."""
    return visit(day(-days), NOON, "IMP", encounter_id=encounter_id)


# ---- the latest value, its unit, its record ------------------------------------------------------------------------


def test_the_latest_creatinine_known_by_then_with_its_record():
    row = scored(
        "egfr",
        *person(born=datetime(1965, 6, 15)),  # 50 today; records 1 and 2
        happened(CREATININE, -30, 2.0, "mg/dL"),
        happened(CREATININE, -10, 1.0, "mg/dL"),  # record 4
        happened(CREATININE, -5, 3.0, "mg/dL", known=1),  # not known yet
        happened(CREATININE, 1.5, 4.0, "mg/dL"),
    )
    assert row["value"] == pytest.approx(68.63, abs=0.005)  # woman of 50, 1.0 mg/dL
    assert (row["reason"], row["risk"]) == (None, None)
    assert input_of(row, "creatinine") == {
        "input": "creatinine",
        "value": 1.0,
        "unit": "mg/dL",
        "points": None,
        "age_days": 10.0,
        "record_id": 4,
        "status": "found",
    }
    assert input_of(row, "age_years")["value"] == 50
    assert input_of(row, "is_female")["record_id"] == 2


@pytest.mark.parametrize(("born", "age"), [(datetime(1965, 6, 15), 50), (datetime(1965, 6, 16), 49)])
def test_age_is_in_completed_years(born, age):
    row = scored("egfr", *person(born=born), happened(CREATININE, -1, 1, "mg/dL"))
    assert input_of(row, "age_years")["value"] == age


def test_ages_above_ninety_count_as_ninety():
    row = scored("egfr", *person(born=datetime(1915, 1, 1)), happened(CREATININE, -1, 1, "mg/dL"))
    assert input_of(row, "age_years")["value"] == 90


def test_units_are_converted():
    milligrams = scored("egfr", *person(), happened(CREATININE, -1, 1.5, "mg/dL"))
    micromoles = scored("egfr", *person(), happened(CREATININE, -1, 132.6, "umol/L"))  # 1.5 x 88.4
    assert micromoles["value"] == pytest.approx(milligrams["value"], rel=1e-6)
    fahrenheit = scored(
        "news2", *person(), *stay(), *vitals(without=TEMPERATURE), happened(TEMPERATURE, -0.1, 102.0, "[degF]")
    )
    assert input_of(fahrenheit, "temperature")["value"] == pytest.approx(38.889, abs=0.001)
    assert fahrenheit["value"] == 1


@pytest.mark.parametrize("unit", ["g/L", None])
def test_a_value_in_another_unit_is_not_read(unit):
    row = scored("egfr", *person(), happened(CREATININE, -1, 1.5, unit))
    assert (row["value"], row["reason"]) == (None, "missing: creatinine")


def test_a_decimal_is_what_was_written():
    # 35.1 as a Float32 lies below 35.1; the band from 35.1 on gives one point, not three
    row = scored("news2", *person(), *stay(), *vitals(temperature=35.1))
    assert input_of(row, "temperature")["points"] == 1


@pytest.mark.parametrize(("on", "found"), [(-364, True), (-365, False), (0, True)])
def test_the_look_back(on, found):
    row = scored("egfr", *person(), happened(CREATININE, on, 1, "mg/dL"))
    assert (row["value"] is not None) == found


def test_of_two_results_at_one_moment_the_one_known_last_counts():
    row = scored(
        "egfr",
        *person(),
        happened(CREATININE, -10, 9.0, "mg/dL", known=-1),
        happened(CREATININE, -10, 1.0, "mg/dL", known=-5),
        happened(CREATININE, -20, 5.0, "mg/dL", known=-0.5),  # older, though known last
    )
    assert input_of(row, "creatinine")["value"] == 9.0


# ---- who has no row, and why a value is null -----------------------------------------------------------------------


def test_other_sexes_have_a_reason_and_children_no_row():
    creatinine = happened(CREATININE, -1, 1, "mg/dL")
    row = scored("egfr", *person(sex="other"), creatinine)
    assert (row["value"], row["reason"]) == (None, "missing: is_female")
    assert scored("egfr", {"time": datetime(1970, 1, 1), "code": "MEDS_BIRTH"}, creatinine)["value"] is None
    two_sexes = [*person(sex="female"), {"code": "SEX//male"}, creatinine]
    assert scored("egfr", *two_sexes)["reason"] == "missing: is_female"
    assert scored("egfr", *person(born=datetime(2000, 1, 1)), creatinine) is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (RESPIRATION, "respiratory_rate"),
        (SATURATION, "oxygen_saturation"),
        (SYSTOLIC, "systolic_bp"),
        (PULSE, "heart_rate"),
        (TEMPERATURE, "temperature"),
    ],
)
def test_news2_names_the_vital_sign_that_is_missing(code, name):
    row = scored("news2", *person(), *stay(), *vitals(without=code))
    assert (row["value"], row["reason"]) == (None, f"missing: {name}")
    assert input_of(row, name)["status"] == "missing"


def test_news2_says_that_air_and_alertness_are_assumed():
    row = scored("news2", *person(), *stay(), *vitals())
    assert row["value"] == 0
    assumed = {one["input"]: one["value"] for one in row["inputs"] if one["status"] == "assumed_normal"}
    assert assumed == {"oxygen_flow": 0, "inspired_oxygen": 21, "glasgow_coma_scale": 15}
    on_oxygen = scored("news2", *person(), *stay(), *vitals(), happened("LOINC//3151-8", -0.1, 2, "L/min"))
    assert on_oxygen["value"] == 2
    drowsy = scored("news2", *person(), *stay(), *vitals(), happened("LOINC//9269-2", -0.1, 13, "{score}"))
    assert drowsy["value"] == 3


@pytest.mark.parametrize(
    ("code", "name", "number", "unit"),
    [
        ("LOINC//9269-2", "glasgow_coma_scale", 5, "[degF]"),
        ("LOINC//9269-2", "glasgow_coma_scale", 5, None),
        ("LOINC//9269-2", "glasgow_coma_scale", None, None),
        ("LOINC//3151-8", "oxygen_flow", 4, "g/L"),
        ("LOINC//3150-0", "inspired_oxygen", 40, "mg/dL"),
    ],
)
def test_what_is_recorded_but_cannot_be_read_is_missing_not_normal(code, name, number, unit):
    row = scored("news2", *person(), *stay(), *vitals(), happened(code, -0.1, number, unit))
    assert (row["value"], row["reason"]) == (None, f"missing: {name}")
    assert input_of(row, name)["value"] is None
    long_ago = scored("news2", *person(), *stay(), *vitals(), happened(code, -2, number, unit))
    assert (long_ago["value"], input_of(long_ago, name)["status"]) == (0, "assumed_normal")
    readable = scored(
        "news2",
        *person(),
        *stay(),
        *vitals(),
        happened(code, -0.1, number, unit),
        happened("LOINC//9269-2", -0.2, 14, "{score}"),
    )
    assert input_of(readable, "glasgow_coma_scale")["value"] == 14


@pytest.mark.parametrize(
    ("visits", "has_row"),
    [
        ([], False),
        (visit(day(-1 / 24), NOON, "AMB"), False),
        (visit(day(-1 / 24), NOON, "EMER"), True),  # ends now
        (visit(day(-1), day(5), "IMP"), True),  # goes on
        (visit(day(-9), day(-1), "IMP"), False),  # over
        ([*visit(day(-9), day(-1), "IMP"), *visit(day(-0.1), day(1), "EMER", encounter_id=2)], True),
        # The emergency visit ends after the stay has begun; the stay goes on
        ([*visit(day(-1.1), day(-0.9), "EMER"), *visit(day(-1), day(1), "IMP", encounter_id=2)], True),
        (visit(day(-400), None, "IMP")[:1], False),  # never ended on record
    ],
)
def test_news2_is_for_acute_care(visits, has_row):
    assert (scored("news2", *person(), *visits, *vitals()) is not None) == has_row


def test_news2_is_not_for_children_nor_in_pregnancy():
    assert scored("news2", *person(born=datetime(2000, 1, 1)), *stay(), *vitals()) is None
    for code in ("SNOMED//72892002", "ICD10CM//O24.410", "ICD10CM//Z3A.20", "ICD10CM//Z32.01"):
        assert scored("news2", *person(), happened(code, -50), *stay(), *vitals()) is None
    not_pregnant = happened("ICD10CM//Z32.02", -50)
    assert scored("news2", *person(), not_pregnant, *stay(), *vitals())["value"] == 0


def test_without_a_birth_and_before_it_there_is_no_row():
    events = events_table({"code": "SEX//female"}, happened(CREATININE, -1, 1, "mg/dL"), *stay(), *vitals())
    assert clinical_scores(events, times(NOON)).height == 0
    born_later = person(born=day(1))
    assert clinical_scores(events_table(*born_later, happened(CREATININE, -1, 1, "mg/dL")), times(NOON)).height == 0


# ---- illnesses -------------------------------------------------------------------------------------------------------


def test_charlson_of_a_record_with_two_spellings_of_icd_10():
    # 72 years: I21 1, I50 1, E11.2 2, N18.4 2, and 3 for the age
    born = datetime(1943, 1, 1)
    illnesses = ["ICD10CM//I21.9", "ICD10CM//I509", "ICD10CM//E11.22", "ICD10//N18.4"]
    events = [*person(born=born), *(happened(code, -900 - place) for place, code in enumerate(illnesses))]
    row = scored("charlson_age", *events)
    assert row["value"] == 9
    points = {one["input"]: one["points"] for one in row["inputs"] if one["status"] == "found"}
    assert points == {
        "myocardial_infarction": 1,
        "heart_failure": 1,
        "diabetes_complicated": 2,
        "kidney_disease": 2,
        "age_years": 3,
    }
    assert input_of(row, "heart_failure")["record_id"] == 4
    assert input_of(row, "dementia")["status"] == "assumed_absent"


@pytest.mark.parametrize(
    ("code", "points"),
    [
        ("ICD10CM//K74.60", 1),
        ("ICD10CM//K76.6", 3),
        ("ICD10CM//E11.9", 1),
        ("ICD10CM//E11.65", 1),
        ("ICD10CM//E11.319", 2),
        ("ICD10CM//C18.9", 2),
        ("ICD10CM//C44.9", 0),  # of the skin
        ("ICD10CM//C78.0", 6),
        ("ICD10CM//Z85.3", 0),  # a history of cancer
        ("ICD10CM//I25.2", 1),
        ("ICD10CM//I25.10", 0),
        ("ICD10CM//F03.90", 1),
        ("ICD10CM//E08.9", 0),
        ("ICD10CM//B20", 6),
        ("SNOMED//88805009", 1),
        ("SNOMED//254837009", 2),
        ("SNOMED//126906006", 0),  # a neoplasm of the prostate may be benign
    ],
)
def test_charlson_codes(code, points):
    assert scored("charlson", *person(), happened(code, -5_000))["value"] == points


@pytest.mark.parametrize(
    ("code", "points"),
    [
        ("ICD10CM//K25.9", 1),  # peptic ulcer heals
        ("SNOMED//13200003", 1),
        ("SNOMED//233678006", 1),  # childhood asthma
        ("SNOMED//69896004", 1),  # rheumatoid arthritis, whose records Synthea closes
        ("SNOMED//93761005", 2),  # cancer of the colon, too
        ("SNOMED//94260004", 6),
    ],
)
def test_what_resolves_or_is_dropped_once_closed_counts_for_two_years(code, points):
    found = [scored("charlson", *person(), happened(code, -ago))["value"] for ago in (729, 730)]
    assert found == [points, 0]


def test_a_lapsed_code_does_not_hide_a_lasting_one():
    cancers = [happened("SNOMED//254837009", -4_000), happened("SNOMED//93761005", -800)]
    found = input_of(scored("charlson", *person(), *cancers), "malignancy")
    assert (found["value"], found["record_id"], found["age_days"]) == (1, 3, 4_000)


@pytest.mark.parametrize("code", ["57054005", "401303003", "401314000", "422504002", "274100004"])
def test_heart_attacks_and_strokes_that_are_outcomes_are_illnesses_of_the_scores_and_code_groups(code):
    is_stroke = code in ("422504002", "274100004")
    found = scored("charlson", *person(), happened(f"SNOMED//{code}", -5_000))
    assert input_of(found, "cerebrovascular_disease" if is_stroke else "myocardial_infarction")["status"] == "found"
    groups = groups_of_codes(pl.DataFrame({"code": [f"SNOMED//{code}"]}))["group"].to_list()
    assert groups == ["stroke" if is_stroke else "myocardial_infarction"]
    in_fibrillation = [happened("SNOMED//49436004", -3), happened(f"SNOMED//{code}", -5_000)]
    # A haemorrhage is no point of CHA2DS2-VASc.
    points = {"274100004": 0, "422504002": 2}.get(code, 1)
    alone = scored("cha2ds2_vasc", *person(), *in_fibrillation[:1])["value"]
    assert scored("cha2ds2_vasc", *person(), *in_fibrillation)["value"] == alone + points


@pytest.mark.parametrize(
    ("code", "groups"),
    [
        ("ICD10CM//Z3A.20", ["pregnancy"]),
        ("ICD10CM//O24.410", ["pregnancy"]),
        ("ICD10CM//O14.90", ["pregnancy", "pregnancy_complication"]),
        ("ICD10CM//O03.9", ["pregnancy_complication"]),  # lost
        ("ICD10CM//O80", ["childbirth"]),
        ("ICD10CM//Z32.02", []),  # not pregnant
    ],
)
def test_codes_of_pregnancy(code, groups):
    assert groups_of_codes(pl.DataFrame({"code": [code]}))["group"].to_list() == groups


def test_cha2ds2_vasc_is_for_atrial_fibrillation():
    woman = person(born=datetime(1937, 1, 1))
    illnesses = [happened(code, -400) for code in ("ICD10CM//I10", "SNOMED//44054006", "ICD10CM//G45.9")]
    assert scored("cha2ds2_vasc", *woman, *illnesses) is None
    row = scored("cha2ds2_vasc", *woman, *illnesses, happened("SNOMED//49436004", -3))
    assert (row["value"], row["risk"]) == (7, 0.096)  # 2 + 1 + 1 + 2 + 1


# ---- the stay that ends now ------------------------------------------------------------------------------------------


def test_lace_at_a_discharge():
    row = scored(
        "lace",
        *person(),
        *visit(day(-5.2), day(-5.05), "EMER", encounter_id=1),  # led to the stay, and makes it acute
        *visit(day(-150), visit_class="EMER", encounter_id=2),
        *visit(day(-250), visit_class="EMER", encounter_id=3),  # too long ago
        happened("ICD10CM//I50.9", -90),
        happened("ICD10CM//E11.9", -90),
        *stay(days=5),
    )
    assert row["value"] == 11  # 4 + 3 + (2 + 1) + 1
    assert input_of(row, "stay_days")["record_id"] == 11
    assert input_of(row, "emergency_visits")["record_id"] == 5
    assert input_of(row, "is_acute_admission")["record_id"] == 3


@pytest.mark.parametrize(
    ("priority", "acute", "status"),
    [("EM", 1, "found"), ("UR", 1, "found"), ("EL", 0, "found"), (None, 0, "assumed_absent")],
)
def test_the_priority_of_the_encounter_says_whether_it_was_acute(priority, acute, status):
    code = f"ENCOUNTER_PRIORITY//ACTPRIORITY//{priority}"
    said = [happened(code, -3) | {"encounter_id": 7}] if priority else []
    of_another = happened("ENCOUNTER_PRIORITY//ACTPRIORITY//EM", -3) | {"encounter_id": 8}
    found = input_of(scored("lace", *person(), *stay(), *said, of_another), "is_acute_admission")
    assert (found["value"], found["status"]) == (acute, status)


def test_what_became_known_after_the_discharge_is_no_part_of_it():
    """Emergency visits, admissions, the priority and a death that are written down a day too late."""
    asked = [*person(), *stay(), happened(HAEMOGLOBIN, -1, 13, "g/dL"), happened(SODIUM, -1, 140, "mmol/L")]
    late = [
        *visit(day(-3.2), day(-3.1), "EMER", encounter_id=1),
        *visit(day(-40), day(-39), "EMER", encounter_id=2),
        *(one for place in range(3, 6) for one in visit(day(-60 - place), day(-59 - place), "IMP", encounter_id=place)),
        happened("ENCOUNTER_PRIORITY//ACTPRIORITY//EM", -3) | {"encounter_id": 7},
        happened("DISCHARGE//NUBC//20", 0) | {"encounter_id": 7},
        happened("CPT//44140", -1),
    ]
    names = ["lace", "hospital", "hospital_2013", "news2"]
    without = clinical_scores(events_table(*asked), times(NOON), names)
    with_late = clinical_scores(
        events_table(*asked, *(one | {"known_time": day(1)} for one in late)), times(NOON), names
    )
    assert_frame_equal(without, with_late, check_exact=True)
    in_time = clinical_scores(events_table(*asked, *late), times(NOON), names)
    assert not in_time.equals(without)


def test_a_stated_priority_goes_before_the_emergency_visit():
    planned = happened("ENCOUNTER_PRIORITY//ACTPRIORITY//EL", -3) | {"encounter_id": 7}
    emergency = visit(day(-3.3), day(-3.2), "EMER", encounter_id=1)
    events = [*person(), *stay(), *emergency, planned]
    assert input_of(scored("lace", *events), "is_acute_admission")["value"] == 0


def test_the_length_counts_dates_and_away_from_a_discharge_there_is_no_row():
    # From 18:00 to noon of the day after: one day
    row = scored("lace", *person(), *visit(day(-0.75), NOON, "IMP"))
    assert input_of(row, "stay_days")["value"] == 1
    for name in ("lace", "hospital", "hospital_2013"):
        assert scored(name, *person(), *stay(), at=day(0.49))["value"] == scored(name, *person(), *stay())["value"]
        assert scored(name, *person(), *stay(), at=day(1)) is None
        assert scored(name, *person(), *stay(), at=day(-1)) is None
        assert scored(name, *person(), *visit(day(-1), NOON, "AMB")) is None


def test_hours_after_the_discharge_the_scores_are_those_of_the_discharge():
    """A day's scores are asked at its end; a day later nobody asks."""
    results = [happened(HAEMOGLOBIN, -1, 11, "g/dL"), happened(SODIUM, -1, 133, "mmol/L"), *vitals()]
    earlier_stay = visit(day(-20), day(-12), "IMP", encounter_id=1)
    events = events_table(*person(), *earlier_stay, *stay(days=4), *results, happened("DISCHARGE//NUBC//01", 0))
    names = ["lace", "hospital", "hospital_2013", "news2"]
    at_once, at_midnight, a_day_later = (
        dict(clinical_scores(events, times(at), names).select("score", "value").iter_rows())
        for at in (NOON, day(0.49), day(1))
    )
    assert at_once == at_midnight == {"lace": 4, "hospital": 2, "hospital_2013": 4, "news2": 0}
    assert a_day_later == {}


def test_of_two_stays_of_a_day_the_one_that_ended_last_counts():
    two = [*visit(day(-9), day(-0.4), "IMP", encounter_id=1), *visit(day(-0.3), day(-0.1), "IMP", encounter_id=2)]
    assert input_of(scored("lace", *person(), *two), "stay_days")["value"] == 0


@pytest.mark.parametrize(
    ("disposition", "of_lace", "of_hospital"),
    [
        ("NUBC//01", 1, 1),
        ("NUBC//03", 0, 1),
        ("NUBC//20", 0, 0),
        ("NUBC//82", 0, 1),  # another hospital, return planned
        ("NUBC//90", 0, 1),  # rehabilitation, return planned
        ("HL7DISPOSITION//home", 1, 1),
        ("HL7DISPOSITION//exp", 0, 0),
        *((f"HL7DISPOSITION//{code}", 0, 1) for code in ("other-hcf", "snf", "long", "rehab", "psy", "hosp")),
    ],
)
def test_the_dead_have_no_row_and_for_lace_neither_those_who_go_to_a_nursing_facility(
    disposition, of_lace, of_hospital
):
    left = happened(f"DISCHARGE//{disposition}", 0)
    rows = clinical_scores(events_table(*person(), *stay(), left), times(NOON), ["lace", "hospital"])
    assert sorted(rows["score"]) == ["hospital"] * of_hospital + ["lace"] * of_lace


def test_hospital_takes_the_last_results_of_the_stay():
    events = [
        *person(),
        *stay(days=6),
        happened(HAEMOGLOBIN, -5, 13, "g/dL"),
        happened(HAEMOGLOBIN, -1, 11.2, "g/dL"),
        happened("CPT//44140", -2),
        *visit(day(-100), day(-98), "IMP", encounter_id=1),
        *visit(day(-6.3), day(-6.1), "EMER", encounter_id=2),
    ]
    row = scored("hospital", *events, happened(SODIUM, -1, 133, "mmol/L"))
    assert (row["value"], row["risk"]) == (6, 0.119)  # 1 + 1 + 1 + 1 + 2, one earlier admission gives 0
    assert scored("hospital_2013", *events, happened(SODIUM, -1, 133, "mmol/L"))["value"] == 8
    before_the_stay = scored("hospital", *events, happened(SODIUM, -7, 133, "mmol/L"))
    assert (before_the_stay["value"], before_the_stay["reason"]) == (None, "missing: sodium")
    neither = scored("hospital", *person(), *stay())
    assert neither["reason"] == "missing: haemoglobin, sodium"


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("CPT//10004", True),
        ("CPT//69990", True),
        ("ICD10PCS//0DTJ4ZZ", True),
        ("SNOMED//80146002", True),
        ("CPT//00840", False),  # anaesthesia
        ("CPT//36415", False),  # drawing blood
        ("CPT//80053", False),  # laboratory panel
        ("CPT//99223", False),  # visit
        ("CPT//1036F", False),  # measure of quality
        ("HCPCS//J1885", False),  # injected drug
    ],
)
def test_what_hospital_counts_as_a_procedure(code, counts):
    row = scored("hospital", *person(), *stay(), happened(code, -1))
    assert input_of(row, "procedure")["status"] == ("found" if counts else "assumed_absent")


@pytest.mark.parametrize("codes", [["ICD10CM//C78.7"], ["ICD10CM//C18.9"], ["ICD10CM//C18.9", "ICD10CM//C78.7"]])
def test_any_cancer_stands_once_for_the_service_of_oncology(codes):
    results = [happened(SODIUM, -1, 140, "mmol/L"), happened(HAEMOGLOBIN, -1, 13, "g/dL")]
    cancers = [happened(code, -300) for code in codes]
    assert scored("hospital", *person(), *stay(), *results, *cancers)["value"] == 2


def test_haemoglobin_in_grams_a_litre():
    results = [happened(SODIUM, -1, 140, "meq/L"), happened(HAEMOGLOBIN, -1, 119, "g/L")]
    assert scored("hospital", *person(), *stay(), *results)["value"] == 1


def test_lace_is_not_asked_of_records_without_emergency_visits():
    codes = pl.DataFrame({"code": ["ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end"]})
    assert set(answerable(codes)) == {score.name for score in SCORES} - {"lace"}
    with_emergencies = pl.concat([codes, pl.DataFrame({"code": ["ENCOUNTER//EMER//start"]})])
    assert "lace" in answerable(with_emergencies)


# ---- the table, and the columns of the feature table ----------------------------------------------------------------

RICH = [
    *person(born=datetime(1940, 2, 3)),
    *visit(day(-3.3), day(-3.1), "EMER", encounter_id=5),
    *stay(),
    *vitals(),
    happened("ICD10CM//I50.9", -700),
    happened("SNOMED//49436004", -300),
    happened(CREATININE, -2, 1.4, "mg/dL"),
    happened(HAEMOGLOBIN, -2, 11, "g/dL"),
    happened(SODIUM, -2, 139, "mmol/L"),
]


MIDLIFE = [  # for whom the scores of prevention are meant: no heart disease, no diabetes, half the kidney function
    *person(born=datetime(1965, 2, 3)),
    {"code": "RACE//OMB//2106-3"},
    happened(SYSTOLIC, -20, 145, "mm[Hg]"),
    happened(CREATININE, -20, 1.4, "mg/dL"),
    happened("LOINC//14959-1", -20, 80, "mg/g"),
    happened("LOINC//2093-3", -20, 210, "mg/dL"),
    happened("LOINC//2085-9", -20, 50, "mg/dL"),
    happened("LOINC//39156-5", -20, 31, "kg/m2"),
    happened("LOINC//72166-2", -20) | {"text_value": "SNOMED//449868002"},
]
RECORDS = [RICH, MIDLIFE]
IN_MIDLIFE = {
    *(f"prevent_{outcome}{years}" for outcome in ("cvd", "ascvd", "hf") for years in ("", "_30y")),
    *("pce", "kfre_2y", "kfre_5y", "findrisc_reduced", "ada_risk_reduced", "caide_reduced"),
}


def test_every_score_has_a_value_for_a_rich_record_and_an_empty_ask_an_empty_table():
    table = clinical_scores(events_table(*RICH), times(NOON, NOON))
    in_midlife = clinical_scores(events_table(*MIDLIFE), times(NOON))
    assert set(in_midlife.drop_nulls("value")["score"]) == IN_MIDLIFE | {
        "egfr",
        "charlson",
        "charlson_age",
        "charlson_quan",
    }
    assert {*table.drop_nulls("value")["score"], *IN_MIDLIFE} == {score.name for score in SCORES}
    assert clinical_scores(events_table(*RICH), times()).schema == table.schema
    assert set(table.columns) == set(ClinicalScores.column_names())


def test_an_unknown_score_is_refused():
    with pytest.raises(KeyError, match="no_such_score"):
        clinical_scores(events_table(*RICH), times(NOON), ["no_such_score"])


def test_the_feature_table_has_the_scores_and_leads_to_their_records():
    events = events_table(*RICH)
    plan = plan_columns([events], times(NOON), StudySettings())
    features = build_features(events, times(NOON), plan).row(0, named=True)
    values = dict(clinical_scores(events, times(NOON)).select("score", "value").drop_nulls().iter_rows())
    assert {name: features[f"score_{name}"] for name in values} == pytest.approx(values, rel=1e-6)
    asked = times(NOON, NOON).with_columns(feature=pl.Series(["score_egfr", "score_charlson"]))
    # Records by their place in RICH: creatinine is the 14th; of Charlson only heart failure gives a point
    assert records_behind(events, asked, plan)["record_ids"].to_list() == [[14], [12]]


@pytest.mark.parametrize("name", [score.name for score in SCORES])
def test_a_feature_column_of_a_score_is_blind_to_the_future(name):
    """The check of the feature table: canaries of every code that a score reads change nothing."""
    events = events_table(*(MIDLIFE if name in IN_MIDLIFE else RICH))
    plan = plan_columns([events], times(NOON), StudySettings()).filter(feature=f"score_{name}")
    built = build_features(events, times(NOON), plan)
    assert count_rows_that_see_the_future(events, built.lazy(), plan, rows=5, seed=1) == 0


CODES = sorted(
    {code.rstrip("*") for score in SCORES for one in score.inputs for code in one.all_codes if one.kind != "static"}
)
fact = st.tuples(
    st.sampled_from(CODES), st.integers(0, 400), st.floats(1, 200, width=32), st.sampled_from(["mg/dL", "%", "/min"])
)


@settings(max_examples=10)
@pytest.mark.parametrize("record", RECORDS)
@given(past=st.lists(fact, max_size=12), future=st.lists(fact, min_size=1, max_size=12), delay=st.floats(0.001, 500))
def test_later_events_change_no_score(record, past, future, delay):
    known = [happened(code, -ago, number, unit) for code, ago, number, unit in past]
    later = [happened(code, delay - ago, number, unit, known=delay) for code, ago, number, unit in future]
    asked = times(NOON, day(-30))
    before, after = (
        clinical_scores(events_table(*record, *known, *more), asked).sort("prediction_time", "score")
        for more in ([], later)
    )
    assert_frame_equal(before, after, check_exact=True)


def test_the_order_of_events_and_who_else_is_asked_change_nothing():
    events = events_table(*RICH).collect()
    other = events.with_columns(pl.col("subject_id") + 1, pl.col("record_id") + 100)
    alone = clinical_scores(events.lazy(), times(NOON))
    together = clinical_scores(
        pl.concat([other.reverse(), events.reverse()]).lazy(), pl.concat([times(NOON), times(NOON, subject_id=2)])
    )
    assert together["subject_id"].n_unique() == 2
    assert_frame_equal(alone, together.filter(subject_id=1), check_exact=True)
