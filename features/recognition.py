"""What of a source has been read before? By a file's size and time of change, else by what its stretches say."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from features.ledger import Ledger
from features.records.contents import SUMS_END
from features.records.reading import SourceFile
from features.records.standing import Standing, deletions, only, places

_SAME_FILE = ["name", "size", "changed_ns", "compression", "shape"]


def changed_files(ledger: Ledger, found: Standing, files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files that may say something new: those with a name, size or time of change that was not there before."""
    same = set(_same_files(ledger, found)["file_now"])
    return [file for file in files if file.number not in same]


def recognise(ledger: Ledger, found: Standing, scanned: pl.DataFrame) -> tuple[Standing, pl.DataFrame]:
    """What is known of a source, where it lies now, and what is new (landing.FOUND).

    Reads `files` and `exports` of `found`; `scanned` are the stretches (landing.FOUND) of the changed files.
    """
    before = ledger.standing
    same = _same_files(ledger, found)
    known = before.stretches.join(same, on="file", how="inner").with_columns(file="file_now").drop("file_now")
    left = before.stretches.join(same, on="file", how="anti")
    # The same text may come several times; each takes one of those read before.
    again = _numbered(scanned).join(
        _numbered(left).drop("file", "nth", "offset", "content"), on=["digest", "copy"], how="left"
    )
    is_new = pl.col("stretch").is_null()
    moved = again.filter(~is_new).select(before.stretches.columns)
    kept = only(before, pl.concat([known.select(moved.columns), moved]))
    return replace(found, stretches=kept.stretches, facts=kept.facts), again.filter(is_new).select(scanned.columns)


def says_the_same(ledger: Ledger, known: Standing, new: pl.DataFrame) -> bool:
    """Whether a source says, export by export, what it said at the last reading, whatever the order of its lines.

    Not if records met twice in one version have other places, as the place may tell which one holds, nor if records in
    the quarantine have.
    """
    before, now = ledger.standing, known.stretches.select("file", "content")
    if not before.exports["kind"].equals(known.exports["kind"], null_equal=True):
        return False
    if _sums(before.stretches, before.files) != _sums(pl.concat([now, new.select(now.columns)]), known.files):
        return False
    if ledger.state.is_tied and not (new.is_empty() and is_in_order(ledger, known)):
        return False
    return _refused(before).equals(_refused(known))


def is_in_order(ledger: Ledger, standing: Standing) -> bool:
    """Whether all that is still there of the last reading lies in the same exports and the same order as then."""
    folders = ledger.standing.exports["folder"].to_list()
    if standing.exports["folder"].to_list()[: len(folders)] != folders:
        return False
    both = places(ledger.standing).join(places(standing), on="stretch", suffix="_now").sort("rank")
    return bool(both["rank_now"].is_sorted() and (both["export"] == both["export_now"]).all())


def _same_files(ledger: Ledger, found: Standing) -> pl.DataFrame:
    return ledger.standing.files.join(found.files, on=_SAME_FILE, suffix="_now").select("file", "file_now")


def _numbered(stretches: pl.DataFrame) -> pl.DataFrame:
    return stretches.sort("file", "offset").with_columns(copy=pl.int_range(pl.len()).over("digest"))


def _refused(standing: Standing) -> pl.DataFrame:
    where = standing.stretches.join(standing.files, on="file").select("stretch", "name", start="offset")
    return standing.facts["refused"].join(where, on="stretch").select("name", "start", "offset").sort(pl.all())


def _sums(stretches: pl.DataFrame, files: pl.DataFrame) -> list[int]:
    by_export = stretches.join(files.select("file", "export"), on="file").sort("export")
    return [sum(part["content"]) % SUMS_END for part in by_export.partition_by("export", maintain_order=True)]


def half_known(ledger: Ledger, standing: Standing) -> pl.DataFrame:
    """The stretches (stretch) of which rows were left out for the sake of a deletion that no longer says so."""
    before, now = deletions(ledger.standing), deletions(standing)
    lost = before.join(now, on="record_id", how="left", suffix="_now").filter(
        (pl.col("export_now") >= pl.col("export")).fill_null(value=False).not_()
    )
    return ledger.erased.clear() if lost.is_empty() and is_in_order(ledger, standing) else ledger.erased
