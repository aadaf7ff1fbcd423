"""PREVENT, PCE, KFRE, FINDRISC, the ADA test and CAIDE from a record: codes, units, ranges, reasons, for whom."""

import polars as pl
import pytest

from features.scores.engine import clinical_scores
from tests.features.small_events import day, events_table, person, times

NAMES = [
    *(f"prevent_{outcome}{years}" for years in ("", "_30y") for outcome in ("cvd", "ascvd", "hf")),
    *("pce", "kfre_2y", "kfre_5y", "findrisc_reduced", "ada_risk_reduced", "caide_reduced"),
]
LIPID_SCORES = {"prevent_cvd", "prevent_cvd_30y", "prevent_ascvd", "prevent_ascvd_30y", "pce"}
PREVENT = {name for name in NAMES if name.startswith("prevent")}
HEART_FAILURE = {"prevent_hf", "prevent_hf_30y"}
DIABETES_RISK = {"findrisc_reduced", "ada_risk_reduced"}
KFRE = {"kfre_2y", "kfre_5y"}

# The worked example of PREVENT at 50 years and ten months; this creatinine is an eGFR of 90 for a woman of 50.
Record = dict[str, tuple[object, ...]]
WORKED: Record = {
    "SNOMED//44054006": (None, None),
    "RXNORM//314076": (None, None),
    "LOINC//8480-6": (160.0, "mm[Hg]"),
    "LOINC//2093-3": (200.0, "mg/dL"),
    "LOINC//2085-9": (45.0, "mg/dL"),
    "LOINC//39156-5": (35.0, "kg/m2"),
    "LOINC//2160-0": (0.79786, "mg/dL"),
    "LOINC//72166-2": ("SNOMED//266919005",),
    "RACE//OMB//2106-3": (),
}
WITHOUT_DIABETES = {code: said for code, said in WORKED.items() if code != "SNOMED//44054006"}
REPLACEMENT = [
    *("CPT//90945", "CPT//90947", "CPT//90951", "CPT//90970", "ICD10CM//T86.11", "SNOMED//108241001"),
    *("SNOMED//161665007", "ICD10PCS//5A1D70Z", "ICD10PCS//0TY00Z0"),
]
HIGH_CREATININE = {"LOINC//2160-0": (2.0, "mg/dL"), "LOINC//14959-1": (300.0, "mg/g")}


def rows_of(record: Record) -> list[tuple[dict[str, object], tuple[object, ...]]]:
    """The events of a record without their times, each with what the record says of it."""
    names = {1: ("text_value",), 2: ("numeric_value", "unit"), 0: ()}
    return [({"code": code, **dict(zip(names[len(said)], said, strict=True))}, said) for code, said in record.items()]


def score(record: Record, age: int = 50, sex: str = "female", days_ago: float = 30) -> dict[str, dict[str, object]]:
    """Every score of a person with this record, by name."""
    born = person(born=day(0).replace(year=2015 - age, month=1), sex=sex)
    rows = [row | ({"time": day(-days_ago)} if said else {}) for row, said in rows_of(record)]
    scored = clinical_scores(events_table(*born, *rows), times(day(0)), NAMES)
    return {row["score"]: row for row in scored.iter_rows(named=True)}


def nulls(scores: dict[str, dict[str, object]]) -> dict[object, set[str]]:
    """The names of the scores without a value, by the reason."""
    found: dict[object, set[str]] = {}
    for name, row in scores.items():
        if row["value"] is None:
            found.setdefault(row["reason"], set()).add(name)
    return found


def test_the_worked_example_from_a_record():
    scores = score(WORKED)
    assert set(scores) == PREVENT | {"pce", "caide_reduced"}  # with diabetes, and with kidneys above 60
    assert scores["prevent_cvd"]["value"] == pytest.approx(0.1468, abs=0.00005)
    assert scores["prevent_hf_30y"]["risk"] == pytest.approx(0.390, abs=0.0005)
    # Age 47 to 53: 3; pressure above 140: 2; body mass index above 30: 2.
    assert scores["caide_reduced"]["value"] == 7
    without_diabetes = score(WITHOUT_DIABETES)
    # FINDRISC: age 45 to 54: 2; above 30 kg/m²: 3; drug: 2. ADA: age 50 to 59: 2; 30 to 39 kg/m²: 2.
    assert without_diabetes["findrisc_reduced"]["value"] == 7
    assert score(WITHOUT_DIABETES | {"LOINC//4548-4": (39.0, "mmol/mol")})["findrisc_reduced"]["value"] == 12  # 5.72 %
    assert without_diabetes["ada_risk_reduced"]["value"] == 4
    # The worked example of KFRE, a man of 60 with 300 mg/g; this creatinine is an eGFR of 30 for him.
    kidneys = score(WORKED | HIGH_CREATININE | {"LOINC//2160-0": (2.409, "mg/dL")}, age=60, sex="male")
    assert kidneys["kfre_5y"]["value"] == pytest.approx(0.2456, abs=0.0002)


def test_results_in_mmol_give_the_same():
    in_mmol = (
        WORKED
        | HIGH_CREATININE
        | {
            "LOINC//2093-3": (200 * 0.02586, "mmol/L"),
            "LOINC//2085-9": (45 * 0.02586, "mmol/L"),
            "LOINC//2160-0": (2 * 88.4, "umol/L"),
            "LOINC//14959-1": (300 / 8.84, "mg/mmol"),
        }
    )
    scores, same = score(in_mmol), score(WORKED | HIGH_CREATININE)
    assert {name: row["value"] for name, row in scores.items()} == pytest.approx(
        {name: row["value"] for name, row in same.items()}, rel=1e-5
    )
    assert len(scores) == 10


@pytest.mark.parametrize(
    ("code", "reason", "scores"),
    [
        ("LOINC//8480-6", "missing: systolic_bp", PREVENT | {"pce", "caide_reduced"}),
        ("LOINC//2160-0", "missing: creatinine", PREVENT),
        ("LOINC//2093-3", "missing: total_cholesterol", LIPID_SCORES | {"caide_reduced"}),
        ("LOINC//2085-9", "missing: hdl_cholesterol", LIPID_SCORES),
        ("LOINC//39156-5", "missing: bmi", HEART_FAILURE | DIABETES_RISK | {"caide_reduced"}),
        ("LOINC//72166-2", "missing: is_smoking", PREVENT | {"pce"}),
        ("RACE//OMB//2106-3", "missing: is_black", {"pce"}),
        ("RXNORM//314076", None, set()),
    ],
)
def test_what_is_missing_is_named_by_the_scores_that_read_it(code, reason, scores):
    record = {other: said for other, said in WITHOUT_DIABETES.items() if other != code}
    assert nulls(score(record)) == ({reason: scores} if reason else {})


@pytest.mark.parametrize(
    ("code", "said", "reason", "scores"),
    [
        ("LOINC//8480-6", (180.0, "mm[Hg]"), None, set()),
        ("LOINC//8480-6", (181.0, "mm[Hg]"), "out of range: systolic_bp", PREVENT),
        ("LOINC//8480-6", (89.0, "mm[Hg]"), "out of range: systolic_bp", PREVENT | {"pce"}),
        ("LOINC//8480-6", (201.0, "mm[Hg]"), "out of range: systolic_bp", PREVENT | {"pce"}),
        ("LOINC//2093-3", (129.0, "mg/dL"), "out of range: total_cholesterol", LIPID_SCORES),
        ("LOINC//2093-3", (320.0, "mg/dL"), None, set()),
        ("LOINC//2085-9", (101.0, "mg/dL"), "out of range: hdl_cholesterol", LIPID_SCORES),
        ("LOINC//39156-5", (39.9, "kg/m2"), None, set()),
        ("LOINC//39156-5", (40.0, "kg/m2"), "out of range: bmi", HEART_FAILURE),
        ("LOINC//2160-0", (0.2, "mg/dL"), "out of range: egfr", PREVENT),
    ],
)
def test_what_is_out_of_range_voids_only_the_scores_that_read_it(code, said, reason, scores):
    assert nulls(score(WITHOUT_DIABETES | {code: said})) == ({reason: scores} if reason else {})


@pytest.mark.parametrize(
    ("age", "added", "absent"),
    [
        (29, {}, {*PREVENT, "pce", "caide_reduced"}),
        (39, {}, {"pce"}),
        (60, {}, {name for name in PREVENT if name.endswith("_30y")}),
        (65, {}, {name for name in PREVENT if name.endswith("_30y")} | {"caide_reduced"}),
        (80, {}, {*PREVENT, "pce", "caide_reduced"}),
        (50, {"SNOMED//22298006": (None, None)}, {*PREVENT, "pce"}),
        (50, {"ICD10CM//I50.9": (None, None)}, PREVENT),
        (50, {"SNOMED//26929004": (None, None)}, {"caide_reduced"}),
        (50, {"ICD10CM//E11.9": (None, None)}, DIABETES_RISK),
        (17, {}, {*PREVENT, *DIABETES_RISK, "pce", "caide_reduced"}),
    ],
)
def test_for_whom_a_score_is_not_meant_there_is_no_row(age, added, absent):
    assert set(NAMES) - KFRE - set(score(WITHOUT_DIABETES | added, age)) == absent


@pytest.mark.parametrize(
    ("added", "has_rows", "reason"),
    [
        ({}, True, None),
        ({"LOINC//2160-0": (0.7, "mg/dL")}, False, None),
        ({"LOINC//14959-1": (0.0, "mg/g")}, True, "out of range: albumin_creatinine"),  # its logarithm is taken
        ({"SNOMED//302497006": (None, None)}, False, None),  # dialysis
        ({"ICD10CM//Z94.0": (None, None)}, False, None),  # transplant
        *(({code: (None, None)}, False, None) for code in REPLACEMENT),
        ({"CPT//90940": (None, None)}, True, None),  # a study of the access, no dialysis
    ],
)
def test_kidney_failure_is_asked_of_people_with_kidney_disease_alone(added, has_rows, reason):
    scores = score(WORKED | HIGH_CREATININE | added)
    assert (set(scores) >= KFRE) == has_rows
    assert {row["reason"] for name, row in scores.items() if name in KFRE} == ({reason} if has_rows else set())


def test_known_kidney_disease_without_creatinine_says_what_is_missing():
    record = {code: said for code, said in WORKED.items() if code != "LOINC//2160-0"}
    scores = score(record | {"ICD10CM//N18.30": (None, None)})
    assert scores["kfre_2y"]["reason"] == "missing: creatinine, albumin_creatinine"
    assert not set(score(record)) & KFRE


@pytest.mark.parametrize(
    ("answer", "is_smoking"),
    [
        ("SNOMED//449868002", 1),
        ("SNOMED//428041000124106", 1),
        ("SNOMED//8517006", 0),
        ("LOINC//LA18976-3", 1),
        ("LOINC//LA18978-9", 0),
        ("SNOMED//266927001", None),  # unknown
    ],
)
def test_answers_about_smoking(answer, is_smoking):
    scores = score(WORKED | {"LOINC//72166-2": (answer,)})
    said = {one["input"]: one["value"] for one in scores["prevent_cvd"]["inputs"]}
    assert said["is_smoking"] == is_smoking
    assert (scores["prevent_cvd"]["value"] is None) == (is_smoking is None)


def test_race_chooses_the_equation():
    white = score(WORKED)["pce"]["value"]
    black = {code: said for code, said in WORKED.items() if not code.startswith("RACE")} | {"RACE//OMB//2054-5": ()}
    asian = {code: said for code, said in WORKED.items() if not code.startswith("RACE")} | {"RACE//OMB//2028-9": ()}
    assert score(asian)["pce"]["value"] == white < score(black)["pce"]["value"]
    assert score(WORKED | black)["pce"]["reason"] == "missing: is_black"  # both are recorded


def test_look_backs():
    """Measurements count for 730 days, prescriptions for 400, illnesses for ever unless they lapse."""
    of_last_year, older, oldest = score(WORKED, days_ago=399), score(WORKED, days_ago=401), score(WORKED, days_ago=731)
    drug = [
        next(one["status"] for one in scores["prevent_cvd"]["inputs"] if one["input"] == "on_bp_drug")
        for scores in (of_last_year, older)
    ]
    assert drug == ["found", "assumed_absent"]
    assert oldest["prevent_cvd"]["reason"] == (
        "missing: systolic_bp, creatinine, is_smoking, total_cholesterol, hdl_cholesterol"
    )
    assert not set(oldest) & DIABETES_RISK


def findrisc_of(*rows: dict[str, object]) -> dict[str, object]:
    """The reduced FINDRISC of a man of 40 with no points but for these rows."""
    weighed = {"time": day(-5), "code": "LOINC//39156-5", "numeric_value": 24.0, "unit": "kg/m2"}
    born = person(born=day(0).replace(year=1975, month=1), sex="male")
    scores = clinical_scores(events_table(*born, weighed, *rows), times(day(0)), ["findrisc_reduced"])
    return scores.row(0, named=True)


def measured(code: str, ago: float, number: float, unit: str | None) -> dict[str, object]:
    return {"time": day(-ago), "code": f"LOINC//{code}", "numeric_value": number, "unit": unit}


@pytest.mark.parametrize(
    ("results", "points"),
    [
        ([("4548-4", 200, 6.2, "%"), ("4548-4", 5, 5.5, "%")], 5),  # the highest, not the latest
        ([("4548-4", 731, 6.2, "%"), ("4548-4", 5, 5.5, "%")], 0),
        ([("4548-4", 5, 5.5, "%"), ("1558-6", 300, 125, "mg/dL"), ("1558-6", 3, 90, "mg/dL")], 5),
        ([("1558-6", 300, 5.6, "mmol/L")], 5),  # 100.9 mg/dL
        ([("1558-6", 300, 99, "mg/dL")], 0),
        ([("4548-4", 5, 6.5, "%"), ("1558-6", 3, 125, "mg/dL")], 5),  # once
    ],
)
def test_a_high_glucose_ever_found_within_two_years(results, points):
    assert findrisc_of(*(measured(*one) for one in results))["value"] == points


def test_the_highest_result_stands_in_the_table_with_its_record():
    row = findrisc_of(measured("4548-4", 200, 6.2, "%"), measured("4548-4", 5, 5.5, "%"))
    found = next(one for one in row["inputs"] if one["input"] == "hba1c")
    assert (found["value"], found["age_days"], found["record_id"]) == (pytest.approx(6.2), 200, 4)


def test_a_highest_result_that_became_known_later_is_not_seen():
    late = measured("4548-4", 200, 6.2, "%") | {"known_time": day(1)}
    assert findrisc_of(late, measured("4548-4", 5, 5.5, "%"))["value"] == 0


def test_an_hba1c_that_cannot_be_read_is_missing():
    assert findrisc_of(measured("4548-4", 9, 9.0, "mmol/L"))["reason"] == "missing: hba1c"


@pytest.mark.parametrize(
    ("code", "counts_for"),
    [("RXNORM//314076", 400), ("ICD10CM//R73.9", 730), ("SNOMED//11687002", 730), ("ICD10CM//R73.03", None)],
)
def test_only_what_never_resolves_counts_for_ever(code, counts_for):
    points = [findrisc_of({"time": day(-ago), "code": code})["value"] > 0 for ago in (399, 401, 731, 5_000)]
    assert points == [counts_for is None or ago < counts_for for ago in (399, 401, 731, 5_000)]


def test_a_coronary_procedure_of_long_ago_no_longer_tells():
    bypass = {"SNOMED//232717009": (None, None)}
    assert not PREVENT & set(score(WITHOUT_DIABETES | bypass, days_ago=729))
    born = person(born=day(0).replace(year=1965, month=1))
    rows = [row | ({"time": day(-30)} if said else {}) for row, said in rows_of(WITHOUT_DIABETES)]
    old = {"time": day(-730), "code": "SNOMED//232717009"}
    assert clinical_scores(events_table(*born, *rows, old), times(day(0)), ["prevent_cvd"])["value"][0] is not None


def test_the_numbers_lead_back_to_their_records():
    record = pl.DataFrame(score(WORKED | HIGH_CREATININE)["kfre_2y"]["inputs"]).filter(input="albumin_creatinine")
    # Birth and sex are records 1 and 2, the codes follow in their order.
    assert record["record_id"].item() == 3 + list(WORKED | HIGH_CREATININE).index("LOINC//14959-1")
    assert record.select("value", "unit", "status", "age_days").row(0) == (300.0, "mg/g", "found", 30.0)
