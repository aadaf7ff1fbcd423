"""Which columns does the feature table have? Fitted on train patients: what is rare among them becomes no column.

Left out on purpose: the length of a record, "ever" counts, the calendar, race and site. Only chronic conditions,
which never resolve, are remembered for longer than the look-back. Not every statistic has every window: a table that
nobody reads helps nobody. features.feature_columns says which has which.
"""

from collections.abc import Sequence

import polars as pl

from features.code_families import icd10cm_category, load_code_families
from features.codes import groups_of_codes, load_code_groups, match_patterns
from features.feature_columns import (
    Definition,
    chronic_states,
    code_counts,
    demographics,
    drugs,
    family_counts,
    group_counts,
    rhythm,
    value_columns,
    visits,
)
from features.scores.columns import score_definitions
from features.settings import StudySettings
from features.tables import FeatureDefinitions, checked

MOST_VALUES = 40
MOST_CODES = 60
SHARE_WITH_VALUE = 0.05
SHARE_WITH_CODE = 0.02

_CODE_SYSTEMS = r"^(SNOMED|RXNORM|CPT|HCPCS|ICD10PCS|ICD10CM)//"
_MEDICATION_ACT = r"//(administered|stated)$"
_MET = {"subject_id": pl.Int64, "code": pl.String, "unit": pl.String, "is_number": pl.Boolean}


def plan_columns(
    shards: Sequence[pl.LazyFrame],
    prediction_times: pl.DataFrame,
    settings: StudySettings,
    codes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Choose the feature columns.

    Reads:    `shards`: features.tables.Events of train patients only; a subject's events lie in one shard.
              `prediction_times`: subject_id, prediction_time. `codes`: features.tables.Codes, for the wording of
              codes; columns are named after the codes themselves when None.
    Returns:  FeatureDefinitions, in the order of the columns.
    """
    days = settings.lookback_days
    seen = [_met(shard, prediction_times, days) for shard in shards]
    ever = pl.concat([pl.DataFrame(schema={"code": pl.String}), *(codes for _, codes in seen)]).unique()
    met = pl.concat([pl.DataFrame(schema=_MET), *(met for met, _ in seen)])
    subjects = met["subject_id"].n_unique()
    wordings = {} if codes is None else dict(codes.drop_nulls("description").select("code", "description").iter_rows())
    of_groups = met.join(groups_of_codes(met), on="code")
    frequent = _frequent(of_groups, "group", SHARE_WITH_CODE * subjects)
    ever_groups = set(groups_of_codes(ever)["group"])
    definitions: list[Definition] = [
        *demographics(),
        *chronic_states([group for group in load_code_groups() if group.is_chronic and group.name in ever_groups]),
        *visits(days),
        *rhythm(days),
        *drugs([group for group in load_code_groups() if group.active_days and group.name in frequent], days),
        *group_counts([group for group in load_code_groups() if group.name in frequent], days),
        *family_counts(_families(met, SHARE_WITH_CODE * subjects), days),
        *value_columns(_measurements(met, SHARE_WITH_VALUE * subjects), days, wordings),
        *code_counts(_single_codes(met, SHARE_WITH_CODE * subjects), days, wordings),
        *score_definitions(ever),
    ]
    table = pl.DataFrame(
        definitions, schema={name: column.dtype for name, column in FeatureDefinitions.columns().items()}
    )
    return checked(table.unique("feature", keep="first", maintain_order=True), FeatureDefinitions)


def _met(events: pl.LazyFrame, prediction_times: pl.DataFrame, lookback_days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Codes that some prediction time of a person sees in its look-back, and those in their whole record.

    Returns distinct subject_id, code, unit, is_number; and distinct code. The first prediction time at or after an
    event became known is the one with the best chance to see it.
    """
    moments = prediction_times.select("subject_id", "prediction_time").unique().sort("prediction_time")
    found = (
        events.filter(pl.col("subject_id").is_in(moments["subject_id"].unique().implode()))
        .select("subject_id", "time", "known_time", "code", "unit", is_number=pl.col("numeric_value").is_not_null())
        .unique()
        .collect(engine="streaming")
    )
    met = (
        found.filter(pl.col("time").is_not_null())
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
        .select(*_MET)
        .unique()
    )
    return met, found.select("code").unique()


def _frequent(met: pl.DataFrame, column: str, fewest: float) -> list[str]:
    """What enough people have, commonest first."""
    counted = met.group_by(column).agg(subjects=pl.col("subject_id").n_unique())
    return (
        counted.filter(pl.col("subjects") >= fewest)
        .sort("subjects", column, descending=[True, False])[column]
        .to_list()
    )


def _families(met: pl.DataFrame, fewest: float) -> list[str]:
    """Families that enough people have and in which two codes or more were met: one alone has a column of its own."""
    patterns = [(family.name, pattern) for family in load_code_families() for pattern in family.patterns]
    of_families = match_patterns(met, pl.DataFrame(patterns, schema=["family", "pattern"], orient="row")).unique(
        ["code", "family"]
    )
    several = of_families.group_by("family").len().filter(pl.col("len") > 1)
    return _frequent(met.join(of_families.join(several, on="family"), on="code"), "family", fewest)


def _measurements(met: pl.DataFrame, fewest: float) -> pl.DataFrame:
    """The commonest measurements: code, unit.

    A code whose values come in several units is left out: its numbers do not compare. (The unit of a code, and how
    to convert to it, stands in features/records/units.toml.)
    """
    return (
        met.filter(pl.col("code").str.starts_with("LOINC//") & pl.col("is_number"))
        .group_by("code")
        .agg(
            units=pl.col("unit").drop_nulls().n_unique(),
            unit=pl.col("unit").drop_nulls().first(),
            subjects=pl.col("subject_id").n_unique(),
        )
        .filter((pl.col("units") <= 1) & (pl.col("subjects") >= fewest))
        .sort("subjects", "code", descending=[True, False])
        .head(MOST_VALUES)
        .select("code", "unit")
    )


def _single_codes(met: pl.DataFrame, fewest: float) -> list[str]:
    """The commonest codes in no group, those of ICD-10-CM rolled up to their category."""
    single = (
        met.filter(pl.col("code").str.contains(_CODE_SYSTEMS))
        .join(groups_of_codes(met), on="code", how="anti")
        .with_columns(pl.col("code").str.replace(_MEDICATION_ACT, ""))
    )
    rolled_up = {code: icd10cm_category(code) or code for code in single["code"].unique()}
    single = single.with_columns(pl.col("code").replace(rolled_up))
    return _frequent(single, "code", fewest)[:MOST_CODES]
