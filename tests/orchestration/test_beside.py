"""Leftovers of killed runs go; what a living process is building stays."""

import os

from orchestration.beside import beside, clear_leftovers


def test_only_leftovers_of_ended_processes_go(tmp_path):
    mine = beside(tmp_path / "labels.parquet")
    mine.touch()
    ended = tmp_path / "tables" / ".labels.parquet.building.999999999"
    ended.parent.mkdir()
    ended.touch()
    folder = tmp_path / ".warehouse.duckdb.building.999999998"
    folder.mkdir()
    (folder / "warehouse.duckdb").touch()
    clear_leftovers(tmp_path)
    assert mine.exists()
    assert mine.name.endswith(str(os.getpid()))
    assert not ended.exists()
    assert not folder.exists()
