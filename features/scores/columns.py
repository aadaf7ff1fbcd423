"""Clinical scores as columns of the feature table: `score_<name>`, what they read, and the records behind them."""

from collections.abc import Iterator

import polars as pl

from features.points import KEYS
from features.scores.engine import Score, clinical_scores, scored_rows
from features.scores.registry import answerable, load_scores

KIND = "clinical_score"
BY_RACE = "clinical_score_by_race"
"""The statistic of a score that reads race: a comparator, never an input of the models that read all columns."""
_PREFIX = "score_"
_OF_PERSONS = ("age", "static")


def score_definitions(codes: pl.DataFrame) -> list[dict[str, str | int | list[str] | None]]:
    """A row of FeatureDefinitions for each score that records with these codes can answer.

    Reads:    `codes`: code, every code of the records. Birth and sex are left out of a column's codes, as for the
              demographic columns.
    """
    return [
        {
            "feature": f"{_PREFIX}{score.name}",
            "description": f"{score.title}; empty where it is not meant or an input is missing",
            "unit": score.unit,
            "kind": KIND,
            "statistic": BY_RACE if _reads_race(score) else KIND,
            "codes": _codes(score),
            "window_days": _longest_window(score),
        }
        for score in load_scores(answerable(codes))
    ]


def score_cells(
    events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame, present: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """The cells of the scores among `definitions` (feature, column): row, column, cell."""
    columns = dict(definitions.filter(kind=KIND).select("feature", "column").iter_rows())
    if not columns:
        return
    scores = load_scores([feature.removeprefix(_PREFIX) for feature in columns])
    for score, scored in scored_rows(events, rows, scores, present):
        column = pl.lit(columns[f"{_PREFIX}{score.name}"])
        cells = scored.select("row", column=column, cell=pl.col("value").cast(pl.Float32))
        yield cells.drop_nulls("cell").collect()


def records_behind_scores(events: pl.LazyFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The records of the inputs that a score got points from, or that its equation used; not those of age and sex.

    Reads:    `asked`: row, subject_id, prediction_time, feature (`score_<name>`).
    Returns:  row, record_id, age_days of the inputs that were found.
    """
    scores = load_scores(asked["feature"].str.strip_prefix(_PREFIX).unique().to_list())
    of_record = [(one.name, score.name) for score in scores for one in score.inputs if one.kind not in _OF_PERSONS]
    names = pl.DataFrame(of_record, schema={"input": pl.String, "score": pl.String}, orient="row")
    events = events.filter(pl.col("subject_id").is_in(asked["subject_id"].unique().implode()))
    return (
        clinical_scores(events, asked.select(KEYS), [score.name for score in scores])
        .with_columns(feature=_PREFIX + pl.col("score"))
        .join(asked, on=[*KEYS, "feature"])
        .select("row", "score", "inputs")
        .explode("inputs")
        .unnest("inputs")
        .join(names, on=["input", "score"])
        .filter((pl.col("status") == "found") & (pl.col("points") > 0).fill_null(value=True))
        .select("row", "record_id", "age_days")
        .drop_nulls("record_id")
    )


def _reads_race(score: Score) -> bool:
    return any(code.startswith("RACE//") for one in score.inputs for code in one.codes)


def _codes(score: Score) -> list[str]:
    return list(dict.fromkeys(code for one in score.inputs if one.kind not in _OF_PERSONS for code in one.all_codes))


def _longest_window(score: Score) -> int | None:
    """The longest look-back of the inputs; None when one of them is looked for in the whole record."""
    windows = [one.window_days for one in score.inputs if one.kind not in _OF_PERSONS]
    lengths = [window for window in windows if window is not None]
    return max(lengths) if len(lengths) == len(windows) else None
