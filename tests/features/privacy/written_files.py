"""What was written under a folder? Every byte as it lies, and every value that opening the file would show."""

import gzip
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import zstandard


def contents_of(folder: Path) -> Iterator[tuple[str, bytes | list[object]]]:
    """(where, raw bytes or decoded values) of every file below `folder`, and the names of files and folders."""
    for path in sorted(folder.rglob("*")):
        where = str(path.relative_to(folder))
        yield f"name of {where}", where.encode()
        if path.is_file() and not path.is_symlink():
            raw = path.read_bytes()
            yield where, raw
            for part, values in _opened(path, raw):
                yield f"{where}: {part}", values


def _opened(path: Path, raw: bytes) -> Iterator[tuple[str, bytes | list[object]]]:
    if raw.startswith(b"PAR1"):
        table = pl.read_parquet(path)
        for column in table.columns:
            yield column, [column, *table[column].to_list()]
    elif raw.startswith(b"SQLite format 3"):
        yield from _opened_sqlite(path)
    elif path.suffix == ".duckdb":
        yield from _opened_duckdb(path)
    elif raw.startswith(b"\x1f\x8b"):
        yield "unzipped", gzip.decompress(raw)
    elif raw.startswith(b"\x28\xb5\x2f\xfd"):
        yield "unzipped", zstandard.ZstdDecompressor().stream_reader(raw).read()


def _opened_sqlite(path: Path) -> Iterator[tuple[str, list[object]]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        database.text_factory = bytes
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            name = table.decode()
            rows = database.execute(f'select * from "{name}"').fetchall()
            yield name, [_unzipped(value) for row in rows for value in row]


def _unzipped(value: object) -> object:
    """Dagster keeps the bodies of runs deflated."""
    if isinstance(value, bytes) and value[:1] == b"\x78":
        try:
            return zlib.decompress(value)
        except zlib.error:
            return value
    return value


def _opened_duckdb(path: Path) -> Iterator[tuple[str, list[object]]]:
    with duckdb.connect(str(path), read_only=True) as database:
        tables = database.execute(
            "select table_schema, table_name from information_schema.tables order by all"
        ).fetchall()
        for schema, table in tables:
            rows = database.execute(f'select * from "{schema}"."{table}"').pl()
            for column in rows.columns:
                yield f"{table}.{column}", rows[column].to_list()
