"""What does each kind of feature look like as a column: name, words, unit, window?

Windows are of 30, 180, 365 and 730 days, none longer than the look-back of the study. Use of care is counted in all
four. Illness that passes is counted in the short ones and in the look-back; lasting illness and treatment in the
look-back, beside its state now. Values are told by their level (latest, means), their extremes (of the last month and
of the look-back), and their course (slope, standard deviation, how many, how long ago).
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from features.code_families import icd10cm_category, load_code_families
from features.codes import CodeGroup
from features.rhythm import RHYTHM, VISIT_STARTS

MONTH_DAYS, HALF_YEAR_DAYS, YEAR_DAYS = 30, 180, 365
VISIT_CLASSES = {"AMB": "ambulatory", "EMER": "emergency", "IMP": "inpatient"}

_NAMES = Path(__file__).with_name("feature_names.toml")
_LOOKBACK = 0  # stands for the look-back of the study
# Statistic, name of the column, windows, words.
_VALUES: list[tuple[str, str, tuple[int, ...], str]] = [
    ("last", "{name}_last", (_LOOKBACK,), "latest value"),
    ("days_since", "{name}_days_since", (_LOOKBACK,), "days since the latest value"),
    ("count", "{name}_count_{window}", (YEAR_DAYS,), "number of values"),
    ("mean", "{name}_mean_{window}", (HALF_YEAR_DAYS, _LOOKBACK), "mean"),
    ("minimum", "{name}_min_{window}", (MONTH_DAYS, _LOOKBACK), "lowest value"),
    ("maximum", "{name}_max_{window}", (MONTH_DAYS, _LOOKBACK), "highest value"),
    ("slope", "{name}_slope_{window}", (_LOOKBACK,), "change per year, by least squares"),
    ("sd", "{name}_sd_{window}", (_LOOKBACK,), "standard deviation"),
]
_EMPTY_UNLESS = {"slope": "; empty unless the values span 30 days", "sd": "; empty for a single value"}

Definition = dict[str, str | int | list[str] | None]


def demographics() -> list[Definition]:
    """Age and sex."""
    return [
        _column("age_years", "Age at the prediction time, 90 and above as 90", "demographic", "age", [], unit="a"),
        _column("is_female", "1 female, 0 male or other; empty when not recorded", "demographic", "is_female", []),
    ]


def chronic_states(groups: Iterable[CodeGroup]) -> list[Definition]:
    """Whether a chronic condition was ever known, and since when: it does not resolve."""
    states = []
    for group in groups:
        since = (
            f"years_since_{group.name}",
            f"{group.description}: years since its first record; empty when never known",
        )
        states += [
            _column(f"has_{group.name}", f"{group.description}: ever known", "state", "is_present", group.patterns),
            _column(*since, "state", "years_since_first", group.patterns, unit="a"),
        ]
    return states


def drugs(groups: Iterable[CodeGroup], lookback_days: int) -> list[Definition]:
    """Whether a drug is active: ordered, stated or administered not longer ago than its group's `active_days`."""
    return [
        _column(
            f"takes_{group.name}",
            f"{group.description}: taken now; that is, ordered, stated or administered in the last {days} days",
            "state",
            "is_present",
            group.patterns,
            days,
        )
        for group in groups
        for days in _windows(lookback_days, group.active_days or _LOOKBACK)
    ]


def visits(lookback_days: int) -> list[Definition]:
    """Visits by class, days in hospital, and the time since the last of each."""
    windows = _windows(lookback_days, MONTH_DAYS, HALF_YEAR_DAYS, YEAR_DAYS, _LOOKBACK)
    counts = [
        _column(
            f"visits_{words}_{window_name(days)}",
            f"{words.capitalize()} visits that started in the last {days} days",
            "utilisation",
            "count",
            [f"ENCOUNTER//{visit_class}//start"],
            days,
        )
        for visit_class, words in VISIT_CLASSES.items()
        for days in windows
    ]
    ends = {
        "visit": [f"ENCOUNTER//{visit_class}//end" for visit_class in VISIT_CLASSES],
        "emergency_visit": ["ENCOUNTER//EMER//end"],
        "inpatient_stay": ["ENCOUNTER//IMP//end"],
    }
    since = [
        _column(
            f"days_since_last_{what}",
            f"Days since the end of the last {what.replace('_', ' ')} at least a day ago; empty when none in "
            f"{lookback_days} days",
            "utilisation",
            "days_since_previous",
            codes,
            lookback_days,
            "d",
        )
        for what, codes in ends.items()
    ]
    stays = [
        _column(
            f"days_in_hospital_{window_name(days)}",
            f"Length of the inpatient stays that ended in the last {days} days, together",
            "utilisation",
            "sum_of_stays",
            ["ENCOUNTER//IMP//end"],
            days,
            "d",
        )
        for days in windows
    ]
    return [*counts, *since, *stays]


def rhythm(lookback_days: int) -> list[Definition]:
    """How regularly the person comes."""
    return [
        _column(
            f"visit_{statistic}_{window_name(lookback_days)}",
            f"Visits: {words}, in the last {lookback_days} days",
            "rhythm",
            statistic,
            VISIT_STARTS,
            lookback_days,
            None if statistic == "gap_variation" else "d",
        )
        for statistic, words in RHYTHM.items()
    ]


def group_counts(groups: Iterable[CodeGroup], lookback_days: int) -> list[Definition]:
    """Records of each group; what lasts in the look-back only, because its state stands in a column already."""
    return [
        _count(group.name, group.description, group.patterns, days)
        for group in groups
        for days in _windows(
            lookback_days,
            *(() if group.is_chronic or group.active_days else (MONTH_DAYS, HALF_YEAR_DAYS)),
            _LOOKBACK,
        )
    ]


def family_counts(names: Iterable[str], lookback_days: int) -> list[Definition]:
    """Records under each wider heading in the look-back."""
    chosen = set(names)
    return [
        _count(family.name, family.description, family.patterns, lookback_days)
        for family in load_code_families()
        if family.name in chosen
    ]


def value_columns(measurements: pl.DataFrame, lookback_days: int, wordings: Mapping[str, str]) -> list[Definition]:
    """Statistics of each measurement. Reads code, unit."""
    names = tomllib.loads(_NAMES.read_text())
    definitions = []
    for code, unit in measurements.select("code", "unit").iter_rows():
        name = names.get(code) or _slug(wordings.get(code), code)
        words = wordings.get(code) or name.replace("_", " ")
        units = {"slope": f"{unit}/a" if unit else "/a", "count": None, "days_since": "d"}
        for statistic, pattern, windows, told in _VALUES:
            for days in _windows(lookback_days, *windows):
                definitions.append(
                    _column(
                        pattern.format(name=name, window=window_name(days)),
                        f"{words}: {told} in the last {days} days{_EMPTY_UNLESS.get(statistic, '')}",
                        "value",
                        statistic,
                        [code],
                        days,
                        units.get(statistic, unit),
                    )
                )
    return definitions


def code_counts(codes: Iterable[str], lookback_days: int, wordings: Mapping[str, str]) -> list[Definition]:
    """Records of single codes and of ICD-10-CM categories in the look-back."""
    definitions = []
    for code in codes:
        is_category = icd10cm_category(code) == code
        patterns = [code, f"{code}.*"] if is_category else [code]
        definitions.append(_count(_slug(wordings.get(code), code), wordings.get(code) or code, patterns, lookback_days))
    return definitions


def window_name(days: int) -> str:
    """A window as it stands in a column's name: 2y for 730 days, 180d for 180."""
    return f"{days // 365}y" if days % 365 == 0 else f"{days}d"


def _count(name: str, words: str, patterns: Iterable[str], days: int) -> Definition:
    column = f"{name}_count_{window_name(days)}"
    return _column(column, f"{words}: records in the last {days} days", "count", "count", patterns, days)


def _column(
    feature: str,
    description: str,
    kind: str,
    statistic: str,
    codes: Iterable[str],
    window_days: int | None = None,
    unit: str | None = None,
) -> Definition:
    return {
        "feature": feature,
        "description": description,
        "unit": unit,
        "kind": kind,
        "statistic": statistic,
        "codes": list(codes),
        "window_days": window_days,
    }


def _windows(lookback_days: int, *days: int) -> list[int]:
    """Distinct windows, shortest first, none beyond the look-back."""
    return sorted({min(one or lookback_days, lookback_days) for one in days})


def _slug(wording: str | None, code: str) -> str:
    """A column name from a code's wording, without the kind in brackets that SNOMED CT adds; else from the code.

    The number of the code stays at the end, because two codes may share a wording.
    """
    number = re.sub(r"[^a-z0-9]+", "_", code.lower()).strip("_")
    if not wording:
        return number
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"\s*\([a-z ]+\)$", "", wording.lower())).strip("_")
    return f"{words[:40].strip('_')}_{number.split('_', 1)[-1]}"
