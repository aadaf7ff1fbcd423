"""Writes docs/feature_dictionary.md: what the columns of the feature table are, and the code groups they read.

python -m features.feature_document docs/feature_dictionary.md         the code groups, as the code has them now
python -m features.feature_document docs/feature_dictionary.md HOME    also the columns, as a run in HOME chose them
"""

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import polars as pl

from features.codes import load_code_groups
from features.feature_tables import build_features
from features.tables import Events, empty

GROUPS, COLUMNS = "code groups", "columns"
_HEADING = re.compile(r"^\[(\w+)\]\s*(?:#\s*(.*))?$", re.MULTILINE)


def code_groups() -> str:
    """Each code group with its codes and where they are from, from features/code_groups.toml."""
    written = files("features").joinpath("code_groups.toml").read_text()
    sources = dict(_HEADING.findall(written))
    rows = [
        (
            f"`{group.name}`",
            group.description,
            "yes" if group.is_chronic else "",
            sources[group.name],
            " ".join(f"`{pattern}`" for pattern in group.patterns),
        )
        for group in load_code_groups()
    ]
    return _table(("group", "what it is", "never resolves", "source", "codes"), rows)


def columns(definitions: pl.DataFrame) -> str:
    """The families of columns, then every column. Reads FeatureDefinitions."""
    if_nothing = _if_nothing_is_recorded(definitions)
    told = definitions.with_columns(
        if_nothing=pl.col("feature").replace_strict(if_nothing), window=pl.col("window_days").cast(pl.String) + " d"
    )
    families = told.group_by("kind", "statistic", "if_nothing", maintain_order=True).agg(
        columns=pl.len(), windows=pl.col("window_days").unique().sort(), example=pl.col("feature").first()
    )
    family_rows = [
        (kind, statistic, f"{count:,}", _windows(windows), nothing, f"`{example}`")
        for kind, statistic, nothing, count, windows, example in families.iter_rows()
    ]
    groups = {group.patterns: group.name for group in load_code_groups()}
    column_rows = [
        (f"`{feature}`", words, unit or "", window or "", nothing, _codes(tuple(codes), groups))
        for feature, words, unit, window, nothing, codes in told.select(
            "feature", "description", "unit", "window", "if_nothing", "codes"
        ).iter_rows()
    ]
    family_head = ("kind", "statistic", "columns", "windows, days", "nothing recorded", "example")
    column_head = ("column", "what it says", "unit", "window", "nothing recorded", "reads")
    return (
        f"{definitions.height:,} columns.\n\n### Families\n\n{_table(family_head, family_rows)}\n### Every column\n\n"
        + _table(column_head, column_rows)
    )


def with_part(page: str, name: str, text: str) -> str:
    """`page` with the text between the marks of a part replaced. Raises ValueError when the page has no such marks."""
    begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"The page has no marks {begin} and {end}.")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def _if_nothing_is_recorded(definitions: pl.DataFrame) -> dict[str, str]:
    """For each column, what stands in it for a person with an empty record: found by asking for one."""
    nobody = pl.DataFrame({"subject_id": [1], "prediction_time": [datetime(2000, 1, 1)]}).cast(
        {"prediction_time": pl.Datetime("us")}
    )
    [row] = build_features(empty(Events).lazy(), nobody, definitions).rows(named=True)
    return {name: "empty" if row[name] is None else f"{row[name]:g}" for name in definitions["feature"]}


def _windows(days: list[int | None]) -> str:
    return ", ".join("none" if one is None else str(one) for one in days)


def _codes(patterns: tuple[str, ...], groups: dict[tuple[str, ...], str]) -> str:
    if patterns in groups:
        return f"group `{groups[patterns]}`"
    return " ".join(f"`{pattern}`" for pattern in patterns) if len(patterns) <= 3 else f"{len(patterns)} codes"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    page = with_part(place.read_text(), GROUPS, code_groups())
    if len(sys.argv) > 2:
        chosen = pl.read_parquet(Path(sys.argv[2]) / "tables" / "feature_definitions.parquet")
        page = with_part(page, COLUMNS, columns(chosen))
    place.write_text(page)
