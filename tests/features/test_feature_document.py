"""The dictionary of the feature table says what the code does."""

from pathlib import Path

import polars as pl
import pytest

from features.codes import load_code_groups
from features.feature_document import COLUMNS, GROUPS, code_groups, columns, with_part
from features.tables import FeatureDefinitions, empty

PAGE = (Path(__file__).parents[2] / "docs" / "feature_dictionary.md").read_text()
DIABETES = next(group for group in load_code_groups() if group.name == "type_2_diabetes")


def definitions(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=empty(FeatureDefinitions).schema, orient="row")


def test_the_page_shows_the_code_groups_as_they_are():
    assert with_part(PAGE, GROUPS, code_groups()) == PAGE, "run: python -m features.feature_document docs/…"


def test_every_group_has_its_source_and_its_codes():
    lines = {line.split("`")[1]: line for line in code_groups().splitlines()[2:]}
    assert list(lines) == [group.name for group in load_code_groups()]
    assert "| yes | ICD-10-CM E11; Synthea writes" in lines["type_2_diabetes"]
    assert "`SNOMED//44054006` `ICD10CM//E11*` |" in lines["type_2_diabetes"]


def test_columns_by_hand():
    """Of an empty record a count is 0 and a value is empty."""
    page = columns(
        definitions(
            ("hba1c_last", "HbA1c: latest | value", "%", "value", "last", ["LOINC//4548-4"], 730),
            ("diabetes_count_2y", "Records", None, "count", "count", list(DIABETES.patterns), 730),
            ("visits_180d", "Visits", None, "utilisation", "count", ["a", "b", "c", "d"], 180),
            ("visits_2y", "Visits", None, "utilisation", "count", ["a", "b", "c", "d"], 730),
        )
    )
    assert "| value | last | 1 | 730 | empty | `hba1c_last` |\n" in page
    assert "| utilisation | count | 2 | 180, 730 | 0 | `visits_180d` |\n" in page
    assert "| `hba1c_last` | HbA1c: latest \\| value | % | 730 d | empty | `LOINC//4548-4` |\n" in page
    assert "| `diabetes_count_2y` | Records |  | 730 d | 0 | group `type_2_diabetes` |\n" in page
    assert "| `visits_2y` | Visits |  | 730 d | 0 | 4 codes |\n" in page


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="no marks"):
        with_part("# nothing", COLUMNS, "")
