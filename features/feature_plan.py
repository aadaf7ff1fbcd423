"""Which columns does the feature table have? Fitted on train patients: what is rare among them becomes no column.

Left out on purpose: the length of a record, "ever" counts, the calendar, race and site. Only chronic conditions,
which never resolve, are remembered for longer than the look-back.
"""

import re
import tomllib
from pathlib import Path

import polars as pl

from features.codes import groups_of_codes, load_code_groups
from features.scores.columns import score_definitions
from features.settings import StudySettings
from features.tables import FeatureDefinitions, checked

SHORT_WINDOW_DAYS = 180
YEAR_WINDOW_DAYS = 365
MOST_VALUES = 40
MOST_CODES = 60
SHARE_WITH_VALUE = 0.05
SHARE_WITH_CODE = 0.02

VISIT_CLASSES = {"AMB": "ambulatory", "EMER": "emergency", "IMP": "inpatient"}
VALUE_STATISTICS = {
    "last": "{name}_last",
    "mean": "{name}_mean_{window}",
    "minimum": "{name}_min_{window}",
    "maximum": "{name}_max_{window}",
    "slope": "{name}_slope_{window}",
    "count": "{name}_count_{window}",
    "days_since": "{name}_days_since",
}

_NAMES = Path(__file__).with_name("feature_names.toml")
_CODE_SYSTEMS = r"^(SNOMED|RXNORM|CPT|HCPCS|ICD10PCS)//"
_MEDICATION_ACT = r"//(administered|stated)$"

Definition = dict[str, str | int | list[str] | None]


def plan_columns(
    events: pl.LazyFrame,
    prediction_times: pl.DataFrame,
    settings: StudySettings,
    codes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Choose the feature columns.

    Reads:    `events`: features.tables.Events of train patients only. `prediction_times`: subject_id,
              prediction_time. `codes`: features.tables.Codes, for the wording of codes; columns are named after the
              codes themselves when None.
    Returns:  FeatureDefinitions, in the order of the columns.
    """
    lookback_days = settings.lookback_days
    met = _met_in_lookback(events, prediction_times, lookback_days)
    subjects = met["subject_id"].n_unique()
    wordings = {} if codes is None else dict(codes.drop_nulls("description").select("code", "description").iter_rows())
    definitions = [
        *_demographics(),
        *_chronic_states(events, prediction_times),
        *_visits(lookback_days),
        *_group_counts(met, subjects, lookback_days),
        *_values(met, subjects, lookback_days, wordings),
        *_code_counts(met, subjects, lookback_days, wordings),
        *score_definitions(events.select("code").unique().collect()),
    ]
    table = pl.DataFrame(
        definitions, schema={name: column.dtype for name, column in FeatureDefinitions.columns().items()}
    )
    return checked(table.unique("feature", keep="first", maintain_order=True), FeatureDefinitions)


def _met_in_lookback(events: pl.LazyFrame, prediction_times: pl.DataFrame, lookback_days: int) -> pl.DataFrame:
    """Codes that some prediction time of a person sees in its look-back.

    Returns distinct subject_id, code, unit, is_number. The first prediction time at or after an event became known is
    the one with the best chance to see it.
    """
    moments = prediction_times.select("subject_id", "prediction_time").unique().sort("prediction_time")
    return (
        events.filter(pl.col("time").is_not_null())
        .filter(pl.col("subject_id").is_in(moments["subject_id"].unique().implode()))
        .select("subject_id", "time", "known_time", "code", "unit", is_number=pl.col("numeric_value").is_not_null())
        .unique()
        .collect(engine="streaming")
        .sort("known_time")
        .join_asof(
            moments,
            left_on="known_time",
            right_on="prediction_time",
            by="subject_id",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
        .filter(pl.col("time") > pl.col("prediction_time") - pl.duration(days=lookback_days))
        .select("subject_id", "code", "unit", "is_number")
        .unique()
    )


def _definition(
    feature: str,
    description: str,
    kind: str,
    statistic: str,
    codes: list[str],
    window_days: int | None = None,
    unit: str | None = None,
) -> Definition:
    return {
        "feature": feature,
        "description": description,
        "unit": unit,
        "kind": kind,
        "statistic": statistic,
        "codes": codes,
        "window_days": window_days,
    }


def _demographics() -> list[Definition]:
    return [
        _definition("age_years", "Age at the prediction time, 90 and above as 90", "demographic", "age", [], unit="a"),
        _definition("is_female", "1 female, 0 male or other; empty when not recorded", "demographic", "is_female", []),
    ]


def _chronic_states(events: pl.LazyFrame, prediction_times: pl.DataFrame) -> list[Definition]:
    """A state for each chronic group that any train patient has."""
    seen = events.join(prediction_times.lazy().select("subject_id").unique(), on="subject_id", how="semi")
    groups = set(groups_of_codes(seen.select("code").unique().collect())["group"])
    return [
        _definition(
            f"has_{group.name}", f"{group.description}: ever known", "state", "is_present", list(group.patterns)
        )
        for group in load_code_groups()
        if group.is_chronic and group.name in groups
    ]


def _visits(lookback_days: int) -> list[Definition]:
    windows = sorted({min(days, lookback_days) for days in (SHORT_WINDOW_DAYS, YEAR_WINDOW_DAYS, lookback_days)})
    counts = [
        _definition(
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
        _definition(
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
        _definition(
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


def _group_counts(met: pl.DataFrame, subjects: int, lookback_days: int) -> list[Definition]:
    frequent = set(_frequent_groups(met, subjects))
    windows = sorted({min(SHORT_WINDOW_DAYS, lookback_days), lookback_days})
    return [
        _definition(
            f"{group.name}_count_{window_name(days)}",
            f"{group.description}: records in the last {days} days",
            "count",
            "count",
            list(group.patterns),
            days,
        )
        for group in load_code_groups()
        if group.name in frequent
        for days in windows
    ]


def _frequent_groups(met: pl.DataFrame, subjects: int) -> list[str]:
    of_groups = met.join(groups_of_codes(met), on="code").group_by("group").agg(pl.col("subject_id").n_unique())
    return of_groups.filter(pl.col("subject_id") >= SHARE_WITH_CODE * subjects)["group"].to_list()


def _values(met: pl.DataFrame, subjects: int, lookback_days: int, wordings: dict[str, str]) -> list[Definition]:
    """Statistics of each frequent measurement.

    A code whose values come in several units is left out: its numbers do not compare. (The unit of a code, and how
    to convert to it, stands in features/records/units.toml.)
    """
    names = tomllib.loads(_NAMES.read_text())
    frequent = (
        met.filter(pl.col("code").str.starts_with("LOINC//") & pl.col("is_number"))
        .group_by("code")
        .agg(
            units=pl.col("unit").drop_nulls().n_unique(),
            unit=pl.col("unit").drop_nulls().first(),
            subjects=pl.col("subject_id").n_unique(),
        )
        .filter((pl.col("units") <= 1) & (pl.col("subjects") >= SHARE_WITH_VALUE * subjects))
        .sort("subjects", "code", descending=[True, False])
        .head(MOST_VALUES)
    )
    definitions = []
    for code, unit in frequent.select("code", "unit").iter_rows():
        name = names.get(code) or _slug(wordings.get(code), code)
        words = wordings.get(code) or name.replace("_", " ")
        units = {"slope": f"{unit}/a" if unit else "/a", "count": None, "days_since": "d"}
        for statistic, pattern in VALUE_STATISTICS.items():
            definitions.append(
                _definition(
                    pattern.format(name=name, window=window_name(lookback_days)),
                    _value_description(words, statistic, lookback_days),
                    "value",
                    statistic,
                    [code],
                    lookback_days,
                    units.get(statistic, unit),
                )
            )
    return definitions


def _value_description(words: str, statistic: str, days: int) -> str:
    within = f"in the last {days} days"
    return {
        "last": f"{words}: latest value {within}",
        "mean": f"{words}: mean {within}",
        "minimum": f"{words}: lowest value {within}",
        "maximum": f"{words}: highest value {within}",
        "slope": f"{words}: change per year, by least squares {within}; empty unless the values span 30 days",
        "count": f"{words}: number of values {within}",
        "days_since": f"{words}: days since the latest value {within}",
    }[statistic]


def _code_counts(met: pl.DataFrame, subjects: int, lookback_days: int, wordings: dict[str, str]) -> list[Definition]:
    """Counts of single codes that are frequent and belong to no group."""
    frequent = (
        met.filter(pl.col("code").str.contains(_CODE_SYSTEMS))
        .with_columns(pl.col("code").str.replace(_MEDICATION_ACT, ""))
        .join(groups_of_codes(met), on="code", how="anti")
        .group_by("code")
        .agg(subjects=pl.col("subject_id").n_unique())
        .filter(pl.col("subjects") >= SHARE_WITH_CODE * subjects)
        .sort("subjects", "code", descending=[True, False])
        .head(MOST_CODES)
    )
    return [
        _definition(
            f"{_slug(wordings.get(code), code)}_count_{window_name(lookback_days)}",
            f"{wordings.get(code) or code}: records in the last {lookback_days} days",
            "count",
            "count",
            [code],
            lookback_days,
        )
        for code in frequent["code"]
    ]


def window_name(days: int) -> str:
    """A window as it stands in a column's name: 2y for 730 days, 180d for 180."""
    return f"{days // 365}y" if days % 365 == 0 else f"{days}d"


def _slug(wording: str | None, code: str) -> str:
    """A column name from a code's wording, without the kind in brackets that SNOMED CT adds; else from the code.

    The number of the code stays at the end, because two codes may share a wording.
    """
    number = re.sub(r"[^a-z0-9]+", "_", code.lower()).strip("_")
    if not wording:
        return number
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"\s*\([a-z ]+\)$", "", wording.lower())).strip("_")
    return f"{words[:40].strip('_')}_{number.split('_', 1)[-1]}"
