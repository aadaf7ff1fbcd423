from collections import Counter

import polars as pl
import pytest

from features.codes import groups_of_codes, load_code_groups, match_patterns

FREE_OF_STATE = {"colorectal_cancer", "anaemia", "childhood_asthma", "rheumatoid_arthritis", "colon_polyp"}


def groups(*codes: str) -> set[str]:
    return set(groups_of_codes(pl.DataFrame({"code": codes}))["group"])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("SNOMED//44054006", {"type_2_diabetes"}),
        ("ICD10CM//E11.9", {"type_2_diabetes"}),
        ("ICD10CM//E11.319", {"type_2_diabetes", "diabetic_retinopathy"}),
        ("ICD10CM//E1", set()),  # a beginning of a beginning is not enough
        ("RXNORM//860975//administered", {"metformin"}),
        ("RXNORM//8609751", set()),  # exact codes match whole
        ("LOINC//4548-4", set()),
    ],
)
def test_groups_of_a_code(code, expected):
    assert groups(code) == expected


def test_group_names_and_exact_codes_are_not_doubled():
    named = load_code_groups()
    assert len({group.name for group in named}) == len(named)
    assert max(Counter(code for group in named for code in group.codes).values()) == 1


def test_what_the_source_may_close_again_is_no_chronic_condition():
    chronic = {group.name for group in load_code_groups() if group.is_chronic}
    assert {"type_2_diabetes", "hypertension", "heart_failure", "dementia", "copd", "obesity"} <= chronic
    assert not chronic & FREE_OF_STATE


def test_patterns_keep_their_other_columns():
    patterns = pl.DataFrame({"pattern": ["A//1*", "A//10", "B//2"], "name": ["from_1", "ten", "two"]})
    found = match_patterns(pl.DataFrame({"code": ["A//10", "A//2"]}), patterns)
    assert set(found.select("code", "name").rows()) == {("A//10", "from_1"), ("A//10", "ten")}
    assert found.columns == ["code", "pattern", "name"]


def test_icd_10_of_who_and_without_the_dot_is_understood():
    codes = ["ICD10//E11.9", "ICD10//E119", "ICD10CM//E11321", "ICD10CM//R7303", "ICD10//I48"]
    found = groups_of_codes(pl.DataFrame({"code": codes}))
    groups = {code: set(found.filter(code=code)["group"]) for code in codes}
    assert groups == {
        "ICD10//E11.9": {"type_2_diabetes"},
        "ICD10//E119": {"type_2_diabetes"},
        "ICD10CM//E11321": {"type_2_diabetes", "diabetic_retinopathy"},
        "ICD10CM//R7303": {"prediabetes"},
        "ICD10//I48": {"atrial_fibrillation"},
    }
