"""Worked examples and every boundary of the formulas, by hand."""

import pytest

from features.scores.charlson import WEIGHTS_1987, WEIGHTS_2011
from features.scores.egfr import SCORES as EGFR
from features.scores.lace import WEIGHTS as LACE_WEIGHTS
from tests.features.scores.small_inputs import NORMAL, formula, score_of, value

ILL = 1.0


@pytest.mark.parametrize(
    ("sex", "age", "creatinine", "expected"),
    [
        ("male", 50, 1.0, 91.69),  # 142 x (1/0.9)^-1.2 x 0.9938^50
        ("female", 50, 1.0, 68.63),  # 142 x (1/0.7)^-1.2 x 0.9938^50 x 1.012
        ("female", 30, 0.6, 123.76),  # 142 x (0.6/0.7)^-0.241 x 0.9938^30 x 1.012
        ("male", 40, 0.8, 114.74),  # 142 x (0.8/0.9)^-0.302 x 0.9938^40
        ("male", 70, 2.0, 35.24),
        ("female", 65, 1.5, 38.43),
        ("male", 50, 0.9, 104.05),  # ratio 1: 142 x 0.9938^50
        ("female", 50, 0.7, 105.30),  # the same x 1.012
    ],
)
def test_egfr(sex, age, creatinine, expected):
    found = value("egfr", creatinine=creatinine, age_years=age, is_female=float(sex == "female"))
    assert found == pytest.approx(expected, abs=0.005)


def test_egfr_falls_with_creatinine_and_age():
    by_creatinine = [value("egfr", creatinine=c, age_years=60, is_female=1) for c in (0.4, 0.7, 0.9, 1.5, 6)]
    by_age = [value("egfr", creatinine=1, age_years=a, is_female=0) for a in (18, 40, 65, 90)]
    assert by_creatinine == sorted(by_creatinine, reverse=True)
    assert by_age == sorted(by_age, reverse=True)


@pytest.mark.parametrize("missing", [one.name for one in EGFR[0].inputs])
def test_egfr_is_null_without_an_input(missing):
    assert value("egfr", **{"creatinine": 1.0, "age_years": 50, "is_female": 1} | {missing: None}) is None


@pytest.mark.parametrize(
    ("illnesses", "age", "of_1987", "of_2011", "with_age"),
    [
        # I21, I50, E11.2, N18.4 at 72: 1+1+2+2, 0+2+1+1, and 3 for the age
        (["myocardial_infarction", "heart_failure", "diabetes_complicated", "kidney_disease"], 72, 6, 4, 9),
        (["diabetes_uncomplicated", "diabetes_complicated"], 40, 2, 1, 2),  # the graver cancels the milder
        (["malignancy", "metastatic_tumour"], 49, 6, 6, 6),
        (["mild_liver_disease", "severe_liver_disease"], 50, 3, 4, 4),
        (["aids"], 80, 6, 4, 10),
        # A public test: eight items of one point
        (list(WEIGHTS_1987)[:8], 30, 8, 6, 8),
        (list(WEIGHTS_1987), 30, 29, 24, 29),  # the known maxima
        ([], 30, 0, 0, 0),
    ],
)
def test_charlson(illnesses, age, of_1987, of_2011, with_age):
    ill = dict.fromkeys(illnesses, ILL)
    assert value("charlson", **ill) == of_1987
    assert value("charlson_quan", **ill) == of_2011
    assert value("charlson_age", **ill, age_years=age) == with_age


@pytest.mark.parametrize(
    ("age", "points"), [(18, 0), (49, 0), (50, 1), (59, 1), (60, 2), (69, 2), (70, 3), (79, 3), (80, 4), (90, 4)]
)
def test_charlson_points_of_age(age, points):
    assert formula("charlson_age", age_years=age)["points_age_years"] == points


@pytest.mark.parametrize(
    ("points", "survival"), [(0, 98.3), (1, 95.9), (2, 90.1), (3, 77.5), (4, 53.4), (5, 21.4), (6, 2.2), (7, 0.0)]
)
def test_charlson_ten_year_survival(points, survival):
    # 0.983^exp(0.9 x points); points put together from AIDS (6) or paralysis (2), ulcer (1) and decades of age
    ill = {"aids": float(points >= 6), "paralysis": float(points in (4, 5)), "peptic_ulcer": float(points in (5, 7))}
    from_age = points - 6 * ill["aids"] - 2 * ill["paralysis"] - ill["peptic_ulcer"]
    found = formula("charlson_age", **ill, age_years=40 + 10 * from_age)
    assert found["value"] == points
    assert 100 * (1 - found["risk"]) == pytest.approx(survival, abs=0.05)


def test_charlson_weights_are_of_the_same_illnesses():
    assert list(WEIGHTS_1987) == list(WEIGHTS_2011)


@pytest.mark.parametrize("name", ["charlson", "charlson_quan", "charlson_age"])
def test_charlson_never_falls_with_one_more_illness(name):
    for illness in WEIGHTS_1987:
        rest = {other: ILL for other in WEIGHTS_1987 if other != illness}
        assert value(name, **rest) <= value(name, **rest, **{illness: ILL})
        assert value(name) <= value(name, **{illness: ILL})


@pytest.mark.parametrize(
    ("vital_signs", "expected"),
    [
        ({}, 0),  # RR 18, SpO2 96 on air, 37.0, 120, 75, alert
        (  # 2 + 2 + 2 + 1 + 2 + 1
            {
                "respiratory_rate": 22,
                "oxygen_saturation": 93,
                "oxygen_flow": 2,
                "temperature": 38.5,
                "systolic_bp": 95,
                "heart_rate": 110,
            },
            10,
        ),
        (  # 3 + 3 + 2 + 1 + 3 + 2
            {
                "respiratory_rate": 26,
                "oxygen_saturation": 90,
                "inspired_oxygen": 40,
                "temperature": 35.5,
                "systolic_bp": 85,
                "heart_rate": 125,
            },
            14,
        ),
        ({"oxygen_saturation": 97, "oxygen_flow": 1}, 2),
        ({"oxygen_saturation": 97, "oxygen_flow": 1, "inspired_oxygen": 40}, 2),  # oxygen counts once
        ({"oxygen_saturation": 90}, 3),  # scale 1, on air
        ({"glasgow_coma_scale": 14}, 3),  # new confusion only
        (  # 3 + 3 + 2 + 3 + 3 + 3 + 3
            {
                "respiratory_rate": 30,
                "oxygen_saturation": 80,
                "oxygen_flow": 10,
                "systolic_bp": 80,
                "heart_rate": 140,
                "glasgow_coma_scale": 3,
                "temperature": 34,
            },
            20,
        ),
    ],
)
def test_news2(vital_signs, expected):
    found = formula("news2", **vital_signs)
    assert found["value"] == expected
    assert sum(points for name, points in found.items() if name.startswith("points_")) == expected


@pytest.mark.parametrize(
    ("vital_sign", "bands"),
    [
        ("respiratory_rate", {8: 3, 9: 1, 11: 1, 12: 0, 20: 0, 21: 2, 24: 2, 25: 3}),
        ("oxygen_saturation", {83: 3, 91: 3, 92: 2, 93: 2, 94: 1, 95: 1, 96: 0, 97: 0, 100: 0}),
        ("systolic_bp", {90: 3, 91: 2, 100: 2, 101: 1, 110: 1, 111: 0, 219: 0, 220: 3}),
        ("heart_rate", {40: 3, 41: 1, 50: 1, 51: 0, 90: 0, 91: 1, 110: 1, 111: 2, 130: 2, 131: 3}),
        (
            "temperature",
            {35.0: 3, 35.1: 1, 36.0: 1, 36.04: 1, 36.05: 0, 36.1: 0, 38.0: 0, 38.1: 1, 39.0: 1, 39.1: 2},
        ),
        ("glasgow_coma_scale", {15: 0, 14: 3, 3: 3}),
        ("oxygen_flow", {0: 0, 0.5: 2}),
        ("inspired_oxygen", {21: 0, 24: 2}),
    ],
)
def test_news2_bands(vital_sign, bands):
    found = {number: formula("news2", **{vital_sign: number})[f"points_{vital_sign}"] for number in bands}
    assert found == bands


@pytest.mark.parametrize(
    ("stay", "expected"),
    [
        # 5 days 4, acute 3, failure 2 + diabetes 1, one visit 1
        (
            {
                "stay_days": 5,
                "is_acute_admission": 1,
                "heart_failure": ILL,
                "diabetes_uncomplicated": ILL,
                "emergency_visits": 1,
            },
            11,
        ),
        ({"stay_days": 0}, 0),
        ({"stay_days": 20, "is_acute_admission": 1, "metastatic_tumour": ILL, "emergency_visits": 6}, 19),  # 7+3+5+4
        (  # 5 + 0 + 5 (1+1+1+3 = 6, capped)
            {
                "stay_days": 13,
                "myocardial_infarction": ILL,
                "cerebrovascular_disease": ILL,
                "peripheral_vascular_disease": ILL,
                "dementia": ILL,
            },
            10,
        ),
        ({"dementia": ILL}, 3),
        ({"dementia": ILL, "myocardial_infarction": ILL}, 5),  # 4 counts 5
        ({"mild_liver_disease": ILL, "mild_kidney_disease": ILL}, 2),  # one item
        ({"diabetes_uncomplicated": ILL, "diabetes_complicated": ILL}, 2),
        ({"emergency_visits": 3}, 3),
        ({"emergency_visits": 4}, 4),
        ({"emergency_visits": 5}, 4),
    ],
)
def test_lace(stay, expected):
    assert value("lace", **stay) == expected


@pytest.mark.parametrize(
    ("days", "points"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (6, 4), (7, 5), (13, 5), (14, 7), (200, 7)]
)
def test_lace_points_of_length(days, points):
    assert formula("lace", stay_days=days)["points_stay_days"] == points


def test_lace_never_falls_with_one_more_illness():
    for illness in LACE_WEIGHTS:
        assert value("lace", stay_days=2) <= value("lace", stay_days=2, **{illness: ILL})


URGENT = {"haemoglobin": 11.2, "sodium": 133, "procedure": 1, "is_acute_admission": 1, "stay_days": 6}


@pytest.mark.parametrize(
    ("stay", "of_2013", "of_2016"),
    [
        # Hb 1 + Na 1 + procedure 1 + urgent 1 + length 2 = 6, and the earlier admissions
        (URGENT | {"earlier_admissions": 1}, 8, 6),
        (URGENT | {"earlier_admissions": 0}, 6, 6),
        (URGENT | {"earlier_admissions": 3}, 8, 8),
        (URGENT | {"earlier_admissions": 7}, 11, 11),
        ({"haemoglobin": 12.0, "sodium": 135, "stay_days": 4}, 0, 0),  # every boundary
        ({"haemoglobin": 11.9}, 1, 1),
        ({"sodium": 134}, 1, 1),
        ({"stay_days": 5}, 2, 2),
        ({"malignancy": ILL}, 2, 2),
        ({"earlier_admissions": 2}, 2, 2),
        ({"earlier_admissions": 5}, 2, 2),
        ({"earlier_admissions": 6}, 5, 5),
        (URGENT | {"earlier_admissions": 9, "malignancy": ILL}, 13, 13),  # the maximum
    ],
)
def test_hospital(stay, of_2013, of_2016):
    assert value("hospital_2013", **stay) == of_2013
    assert value("hospital", **stay) == of_2016


@pytest.mark.parametrize(
    ("stay", "points", "risk"),
    [
        ({}, 0, 0.058),
        ({"stay_days": 5, "malignancy": ILL}, 4, 0.058),
        ({"stay_days": 5, "malignancy": ILL, "procedure": 1}, 5, 0.119),
        (URGENT, 6, 0.119),
        ({"stay_days": 5, "earlier_admissions": 6}, 7, 0.228),
    ],
)
def test_hospital_risk_is_that_of_the_group(stay, points, risk):
    found = formula("hospital", **stay)
    assert (found["value"], found["risk"]) == (points, risk)
    assert "risk" not in formula("hospital_2013", **stay)


@pytest.mark.parametrize(
    ("patient", "expected", "strokes"),
    [
        ({"age_years": 78, "is_female": 1, "hypertension": ILL, "diabetes": ILL, "stroke_or_embolism": ILL}, 7, 0.096),
        ({"age_years": 70, "heart_failure": ILL, "vascular_disease": ILL}, 3, 0.032),
        ({"age_years": 60}, 0, 0.0),
        ({"age_years": 65, "is_female": 1}, 2, 0.022),
        ({"age_years": 64}, 0, 0.0),
        ({"age_years": 74}, 1, 0.013),
        ({"age_years": 75}, 2, 0.022),
        (
            {
                "age_years": 75,
                "is_female": 1,
                "heart_failure": ILL,
                "hypertension": ILL,
                "diabetes": ILL,
                "stroke_or_embolism": ILL,
                "vascular_disease": ILL,
            },
            9,
            0.152,
        ),
    ],
)
def test_cha2ds2_vasc(patient, expected, strokes):
    found = formula("cha2ds2_vasc", **patient)
    assert (found["value"], found["risk"]) == (expected, strokes)


@pytest.mark.parametrize("name", ["charlson", "charlson_age", "lace", "hospital", "news2", "cha2ds2_vasc", "egfr"])
def test_without_a_number_no_score(name):
    """Each input that a formula reads makes the score null when it is null."""
    score = score_of(name)
    given = {one.name: NORMAL.get(one.name, 1.0) for one in score.inputs}
    read = [one for one in score.inputs if value(name, **given | {one.name: None}) is None]
    only_for_the_population = {one.name for one in score.inputs} - {one.name for one in read}
    allowed = {
        "charlson": {"age_years"},
        "lace": {"age_years", "died_in_stay", "left_for_care"},
        "hospital": {"age_years", "died_in_stay"},
        "news2": {"age_years", "pregnancy", "in_acute_care"},
        "cha2ds2_vasc": {"atrial_fibrillation"},
    }
    assert only_for_the_population == allowed.get(name, set())
