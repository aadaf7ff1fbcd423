"""Every code in every window at every moment at which something happened, kept as runs.

What a wide table of all codes would hold, cell by cell, changes only when an event comes or leaves the window. So a
row here stands for all moments of a person between two changes; `cells_of` gives the cells themselves. The engine is
that of the feature table (features.windows); only the time of events counts here, as in any MEDS dataset.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from features.points import moments_of, points_of, with_numbers
from features.windows import rows_of_runs, window_runs

CODE_STATISTICS = ("count",)
VALUE_STATISTICS = ("count", "sum", "sum_of_squares", "minimum", "maximum")
_EVENTS_AT_ONCE = 20_000
_ROWS = {"person": pl.UInt32, "measure": pl.UInt32, "from_row": pl.UInt32, "until_row": pl.UInt32, "count": pl.UInt32}


def codes_of(shards: Iterable[pl.LazyFrame]) -> pl.DataFrame:
    """Number the codes of a dataset: code, measure; sorted."""
    met = [shard.select("code").unique().collect(engine="streaming") for shard in shards]
    return pl.concat(met).unique().sort("code").with_row_index("measure").select("code", "measure")


def runs_of_shard(
    events: pl.LazyFrame, codes: pl.DataFrame, windows: Mapping[str, int | None]
) -> dict[str, pl.DataFrame]:
    """Statistics of every code in every window at each moment of a shard, as runs of moments.

    Reads:    `events`: subject_id, time, code, numeric_value (MEDS). `codes`: code, measure. `windows`: days by name;
              None for the whole record.
    Returns:  tables by name. `moments`: subject_id, time, sorted; a moment's place is its row. `static`: subject_id,
              measure of events without a time. For each window `<name>/codes`: measure, from_row, until_row
              (excluded), count; and `<name>/values` of the events with a number, with the sums and extremes too.
    """
    found = events.select("subject_id", "time", "code", "numeric_value").collect()
    dated = found.filter(pl.col("time").is_not_null())
    moments = dated.select("subject_id", "time").unique().sort("subject_id", "time")
    seen = dated.with_columns(known_time="time", record_id=pl.lit(0))
    points = points_of(seen, moments_of(moments.rename({"time": "prediction_time"})), codes)
    numbers = with_numbers(points)
    tables = {
        "moments": moments,
        "static": found.filter(pl.col("time").is_null())
        .join(codes, on="code")
        .select("subject_id", "measure")
        .unique()
        .sort("subject_id", "measure"),
    }
    for name, days in windows.items():
        for what, of, statistics in (("codes", points, CODE_STATISTICS), ("values", numbers, VALUE_STATISTICS)):
            runs = window_runs(of, days, statistics)
            types = pl.Schema({column: _ROWS.get(column, pl.Float32) for column in runs.columns})
            tables[f"{name}/{what}"] = runs.cast(types).drop("person")
    return tables


def write_code_runs(shards: Iterable[pl.LazyFrame], folder: Path, windows: Mapping[str, int | None]) -> int:
    """Write the runs of a dataset: <folder>/<number>/<table>.parquet, and codes.parquet. Returns how many moments.

    Each number holds some people of a shard, with not many more than 20,000 events together, so that memory does not
    grow with the shards.
    """
    shards = list(shards)
    folder.mkdir(parents=True, exist_ok=True)
    codes = codes_of(shards)
    codes.write_parquet(folder / "codes.parquet")
    moments = 0
    for number, part in enumerate(part for shard in shards for part in _parts_of(shard)):
        for name, table in runs_of_shard(part, codes, windows).items():
            place = folder / str(number) / f"{name}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            table.write_parquet(place, compression="zstd")
            moments += table.height if name == "moments" else 0
    return moments


def _parts_of(shard: pl.LazyFrame) -> Iterator[pl.LazyFrame]:
    sizes = shard.group_by("subject_id").len().collect(engine="streaming").sort("subject_id")
    part = (pl.col("len").cast(pl.Int64).cum_sum() - 1) // _EVENTS_AT_ONCE
    for people in sizes.with_columns(part=part).partition_by("part", maintain_order=True):
        yield shard.filter(pl.col("subject_id").is_in(people["subject_id"].implode()))


def cells_of(runs: pl.DataFrame) -> pl.DataFrame:
    """Each cell by itself: row, measure, and the statistics."""
    place, row = rows_of_runs(runs)
    return runs.drop("from_row", "until_row")[place].insert_column(0, pl.Series("row", row, pl.UInt32))
