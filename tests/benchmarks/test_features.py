"""The runs of every code say what meds-tab says, cell by cell; what its cells mean, see benchmarks.meds_tab."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.features import WINDOWS, shards_in, write_some
from benchmarks.meds_tab import peer_cells
from features.code_runs import cells_of, runs_of_shard, write_code_runs

PEER = Path(os.environ.get("MEDS_TAB_PYTHON", ""))
CODES = ["LOINC//a", "LOINC//b", "SNOMED//c"]


def drawn_events(people: int = 8, seed: int = 5) -> pl.DataFrame:
    """Events of some people, several at one time; numbers above 0, exact in 32 bits."""
    draw = np.random.default_rng(seed)
    size = 60 * people
    return (
        pl.DataFrame(
            {
                "subject_id": draw.integers(1, people + 1, size),
                "time": [
                    datetime(2015, 1, 1) + timedelta(hours=int(hours)) for hours in draw.integers(0, 18_000, size)
                ],
                "code": draw.choice(CODES, size).tolist(),
                "numeric_value": draw.integers(1, 500, size).astype(np.float32) / 4,
            }
        )
        .with_columns(pl.when(pl.col("code") != "SNOMED//c").then("numeric_value"), pl.col("time").dt.truncate("12h"))
        .sort("subject_id", "time", "code")
    )


def dense(events: pl.DataFrame, table: str, statistic: str) -> np.ndarray:
    """A cell for each moment and code; 0 where nothing is seen."""
    codes = pl.DataFrame({"code": CODES, "measure": [0, 1, 2]}, schema_overrides={"measure": pl.UInt32})
    tables = runs_of_shard(events.lazy(), codes, WINDOWS)
    cells = cells_of(tables[table])
    matrix = np.zeros((tables["moments"].height, len(CODES)))
    matrix[cells["row"], cells["measure"]] = cells[statistic]
    return matrix


def test_cells_by_hand():
    start = datetime(2015, 1, 1)
    rows = [(1, start, 2.0), (1, start + timedelta(days=29), 4.0), (1, start + timedelta(days=31), 1.0)]
    events = pl.DataFrame(
        [(who, at, "LOINC//a", number) for who, at, number in rows],
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32},
        orient="row",
    )
    # 30 days back from day 31 lies day 1: the first value has left.
    assert dense(events, "30d/values", "count")[:, 0].tolist() == [1, 2, 2]
    assert dense(events, "30d/values", "sum")[:, 0].tolist() == [2, 6, 5]
    assert dense(events, "30d/values", "sum_of_squares")[:, 0].tolist() == [4, 20, 17]
    assert dense(events, "30d/values", "minimum")[:, 0].tolist() == [2, 2, 1]
    assert dense(events, "full/values", "maximum")[:, 0].tolist() == [2, 4, 4]


def test_files_hold_what_a_shard_gives(tmp_path):
    events = drawn_events()
    for number in (0, 1):
        place = tmp_path / "data" / f"{number}.parquet"
        place.parent.mkdir(exist_ok=True)
        events.filter(pl.col("subject_id") % 2 == number).write_parquet(place)
    assert write_some(tmp_path / "data", tmp_path / "some", 3) == events.filter(pl.col("subject_id") <= 3).height
    shards = shards_in(tmp_path / "data")
    assert write_code_runs(shards, tmp_path / "runs", WINDOWS) == events.select("subject_id", "time").n_unique()
    codes = pl.read_parquet(tmp_path / "runs" / "codes.parquet")
    assert codes["code"].to_list() == CODES
    written = pl.read_parquet(tmp_path / "runs" / "1" / "365d" / "values.parquet")
    assert written.equals(runs_of_shard(shards[1], codes, WINDOWS)["365d/values"])


def test_people_in_parts_are_the_same_people(tmp_path, monkeypatch):
    monkeypatch.setattr("features.code_runs._EVENTS_AT_ONCE", 100)
    events = drawn_events()
    write_code_runs([events.lazy()], tmp_path, WINDOWS)
    codes = pl.read_parquet(tmp_path / "codes.parquet")
    whole = runs_of_shard(events.lazy(), codes, WINDOWS)

    def cells(moments: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
        return cells_of(runs).join(moments.with_row_index("row"), on="row").drop("row")

    parts = [folder for folder in sorted(tmp_path.iterdir()) if folder.is_dir()]
    assert len(parts) > 3
    told = [
        cells(pl.read_parquet(part / "moments.parquet"), pl.read_parquet(part / "30d" / "values.parquet"))
        for part in parts
    ]
    expected = cells(whole["moments"], whole["30d/values"])
    keys = ["subject_id", "time", "measure"]
    assert pl.concat(told).sort(keys).equals(expected.sort(keys))


@pytest.mark.skipif(not PEER.is_file(), reason="MEDS_TAB_PYTHON names no Python with meds-tab 0.2.0")
def test_cells_are_those_of_meds_tab(tmp_path):
    events = drawn_events()
    values = events.filter(pl.col("numeric_value").is_not_null())
    numbered = pl.DataFrame({"code": CODES, "measure": [0, 1, 2]})

    def peer(table: pl.DataFrame, number: pl.Expr, aggregation: str) -> dict[str, np.ndarray]:
        asked = table.join(numbered, on="code", maintain_order="left").select(
            "subject_id", "time", "measure", number=number.cast(pl.Float64)
        )
        # It leaves out the last event of each time, so each time gets one more.
        last = asked.unique(["subject_id", "time"]).with_columns(measure=pl.lit(0, pl.Int64), number=pl.lit(0.0))
        ordered = pl.concat([asked, last]).sort("subject_id", "time", maintain_order=True)
        ordered.write_parquet(tmp_path / "events.parquet")
        peer_cells(PEER, tmp_path / "events.parquet", tmp_path / "cells.npz", (aggregation,))
        with np.load(tmp_path / "cells.npz") as found:
            return {name.partition("|")[0]: found[name] for name in found}

    def ours(table: pl.DataFrame, what: str, statistic: str) -> dict[str, np.ndarray]:
        return {name: dense(table, f"{name}/{what}", statistic) for name in WINDOWS}

    def same(theirs: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> None:
        for name in WINDOWS:
            np.testing.assert_allclose(own[name][:, : theirs[name].shape[1]], theirs[name], rtol=1e-6)

    number = pl.col("numeric_value")
    keys = ["subject_id", "time", "code"]
    # It counts distinct times: so one event of a code is left at each time.
    once = events.unique(keys, keep="first", maintain_order=True)
    same(peer(once, pl.lit(1), "code/count"), ours(once, "codes", "count"))
    same(peer(events, pl.lit(1), "code/count"), ours(once, "codes", "count"))
    same(peer(values, number, "value/count"), ours(values.unique(keys, keep="first"), "values", "count"))
    same(peer(values, number, "value/sum"), ours(values, "values", "sum"))
    # It squares twice, at each time and over the window: the sum of squares of each time's sum of squares.
    squares = values.group_by(keys, maintain_order=True).agg((number**2).sum())
    same(peer(values, number, "value/sum_sqd"), ours(squares, "values", "sum_of_squares"))
