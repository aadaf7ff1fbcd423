import polars as pl
import pytest

from features.code_families import icd10cm_category, load_code_families
from features.codes import load_code_groups, match_patterns


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("ICD10CM//E11.65", "ICD10CM//E11"),
        ("ICD10CM//M1A.00X0", "ICD10CM//M1A"),
        ("ICD10CM//I10", "ICD10CM//I10"),
        ("SNOMED//44054006", None),
    ],
)
def test_categories(code, category):
    assert icd10cm_category(code) == category


@pytest.mark.parametrize(
    ("code", "chapter"),
    # The tabular list of ICD-10-CM: blocks at the borders of chapters that share a letter.
    [
        ("D49.9", "02"),
        ("D50.0", "03"),
        ("H59.8", "07"),
        ("H60.0", "08"),
        ("T88.9", "19"),
        ("V00.0", "20"),
        ("Y99", "20"),
    ],
)
def test_every_code_has_one_chapter(code, chapter):
    patterns = [(family.name, pattern) for family in load_code_families() for pattern in family.patterns]
    codes = pl.DataFrame({"code": [f"ICD10CM//{code}"]})
    found = match_patterns(codes, pl.DataFrame(patterns, schema=["family", "pattern"], orient="row"))["family"]
    assert [name for name in found if name.startswith(f"icd10cm_chapter_{chapter}")] == [
        name for name in found if name.startswith("icd10cm_chapter")
    ]
    assert found.str.starts_with("icd10cm_chapter").sum() == 1


def test_drugs_and_only_drugs_say_how_long_they_are_active():
    for group in load_code_groups():
        are_drugs = all(code.startswith("RXNORM//") for code in group.patterns)
        assert (group.active_days is not None) == are_drugs, group.name
