"""Results in one unit for each code; the arithmetic stands beside each case."""

import polars as pl
import pytest

from features.records.units import harmonise, is_ucum, plan_measures


def harmonised(code: str, value: float | None, unit: str | None) -> tuple[float | None, str | None, dict[str, int]]:
    measures = pl.DataFrame({"code": [f"LOINC//{code}"], "unit": pl.Series([unit], dtype=pl.String)})
    numbers, units, counts = harmonise(
        pl.Series([0], dtype=pl.UInt32),
        pl.Series([value], dtype=pl.Float64),
        plan_measures(measures),
        pl.Series([7], dtype=pl.Int64),
    )
    assert set(counts["stretch"]) <= {7}
    return numbers.item(), units.item(), dict(counts.select("finding", "count").iter_rows())


@pytest.mark.parametrize(
    ("code", "value", "unit", "expected", "expected_unit", "finding"),
    [
        ("8480-6", 120.4, "mmHg", 120, "mm[Hg]", "units_spelt_otherwise"),
        ("8480-6", 120.4, None, 120, "mm[Hg]", "values_without_unit"),
        ("4548-4", 48.0, "mmol/mol", 6.5, "%", "units_spelt_otherwise"),  # 0.09148 x 48 + 2.152 = 6.543
        ("29463-7", 150.0, "lb", 68.0, "kg", "units_spelt_otherwise"),  # 150 x 0.45359 = 68.04
        ("2885-2", 70.04, "g/dL", 7.0, "g/dL", "values_under_wrong_unit"),  # 70 g/dL cannot be; 70 g/L can
        ("2885-2", 8.0, "g/dL", 8.0, "g/dL", None),  # right as it stands
        ("10834-0", 2.74, "g/L", 2.7, "g/dL", "values_under_wrong_unit"),  # 0.27 g/dL cannot be
        ("33914-3", 75.0, "mL/min", None, "mL/min/{1.73_m2}", "values_in_inconvertible_unit"),
        ("8480-6", 5000.0, "mmHg", None, "mm[Hg]", "values_implausible"),
        ("9269-2", 5.0, "1", 5, "{score}", "units_spelt_otherwise"),
        ("9269-2", 5.0, "{#}", 5, "{score}", "units_spelt_otherwise"),
        ("9269-2", 5.0, None, 5, "{score}", "values_without_unit"),
        ("9269-2", 5.0, "mg/dL", None, "{score}", "values_in_inconvertible_unit"),
        ("3150-0", 0.4, "1", 40, "%", "units_spelt_otherwise"),
        ("3150-0", 0.4, "%", 40, "%", "values_under_wrong_unit"),  # nobody breathes 0.4 %
        ("3150-0", 0.4, "{fraction}", 40, "%", "units_spelt_otherwise"),
        ("3151-8", 4.0, "lpm", 4, "L/min", "units_spelt_otherwise"),
        ("3151-8", 4.0, "{L/min}", 4, "L/min", "units_spelt_otherwise"),
        ("3151-8", 500.0, "mL/min", 0.5, "L/min", "units_spelt_otherwise"),
        ("1558-6", 6.0, "mmol/L", 108, "mg/dL", "units_spelt_otherwise"),  # 6 x 18.016 = 108.1
        ("99999-9", 176.35499866729558, "cm", 176.4, "cm", None),  # no entry: four figures
        ("99999-9", 5.5, "Quillfeather", 5.5, None, "units_not_in_ucum"),  # a source may write anything there
    ],
)
def test_units_by_hand(code, value, unit, expected, expected_unit, finding):
    after, after_unit, counts = harmonised(code, value, unit)
    assert after == (None if expected is None else pytest.approx(expected, rel=1e-6))
    assert after_unit == expected_unit
    if finding:
        assert counts[finding] == 1
    else:
        assert not counts


def test_an_event_without_a_number_has_no_unit_and_counts_for_nothing():
    assert harmonised("8480-6", None, None) == (None, None, {})


@pytest.mark.parametrize(
    "unit",
    [
        "mg/dL",
        "mm[Hg]",
        "10*3/uL",
        "{score}",
        "mL/min/{1.73_m2}",
        "kg/m2",
        "m[IU]/L",
        "k[IU]/L",
        "%",
        "/min",
        "[degF]",
        "g/(24.h)",
        "10*-3",
        "umol/L",
        "mm",
    ],
)
def test_units_of_ucum_pass(unit):
    assert is_ucum(unit)


@pytest.mark.parametrize(
    "unit", ["Quillfeather", "mg Nora", "{Nora}", "[Nora]", "1234567", "999-22-1962", "mg{Nora}/dL"]
)
def test_words_that_are_no_unit_do_not_pass(unit):
    assert not is_ucum(unit)
