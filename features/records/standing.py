"""What a source says as it stands: its files, the stretches of text in them, and the facts found there.

Everything that a source as a whole tells about one record, such as whose it is and whether it was withdrawn, is worked
out here from those three.
"""

from dataclasses import dataclass, replace

import polars as pl

from features.records.facts import FactTables, joined
from features.records.landing import STRETCH
from features.records.medicines import MEDICATION
from features.records.reading import SourceFile

FILES = {
    "file": pl.Int64,  # its number in this reading
    "name": pl.String,
    "size": pl.Int64,
    "changed_ns": pl.Int64,
    "compression": pl.String,
    "shape": pl.String,
    "export": pl.Int64,
}


@dataclass(frozen=True)
class Standing:
    """files: FILES. exports: features.records.exports.EXPORTS. stretches: STRETCH. facts: a table a kind of fact."""

    files: pl.DataFrame
    exports: pl.DataFrame
    stretches: pl.DataFrame
    facts: FactTables


def table_of_files(files: list[SourceFile], exports: list[int]) -> pl.DataFrame:
    """FILES, as they lie there now."""
    rows = [
        (file.number, file.name, file.size, file.path.stat().st_mtime_ns, file.compression, file.shape, export)
        for file, export in zip(files, exports, strict=True)
    ]
    return pl.DataFrame(rows, schema=FILES, orient="row")


def nothing_read(files: pl.DataFrame, exports: pl.DataFrame) -> Standing:
    """A source of which nothing is known but its files and exports."""
    return Standing(files, exports, pl.DataFrame(schema=STRETCH), joined([]))


def only(standing: Standing, stretches: pl.DataFrame) -> Standing:
    """The same source with no more than the given stretches (STRETCH)."""
    kept = stretches.select("stretch")
    facts = {kind: table.join(kept, on="stretch", how="semi") for kind, table in standing.facts.items()}
    return replace(standing, stretches=stretches.select(STRETCH.keys()), facts=facts)


def places(standing: Standing) -> pl.DataFrame:
    """stretch, export, rank: of which export each stretch is, and its place among all."""
    return (
        standing.stretches.join(standing.files.select("file", "export"), on="file")
        .sort("file", "offset")
        .select("stretch", "export", rank=pl.int_range(pl.len()))
    )


def deletions(standing: Standing) -> pl.DataFrame:
    """record_id, export: which resources the source withdrew, and the last export that says so.

    It takes out what that export and those before it say of the resource; of a patient, all that they say at all.
    """
    found = standing.facts["deletions"].join(places(standing), on="stretch")
    return found.group_by("record_id").agg(pl.col("export").max()).sort("record_id")


def without_erased(standing: Standing) -> Standing:
    """The same source without the names of patients whom it withdrew."""
    erased = deletions(standing)
    if erased.is_empty():
        return standing
    where = places(standing).select("stretch", "export")

    def left(kind: str, subject: str) -> pl.DataFrame:
        table = standing.facts[kind]
        gone = (
            table.join(where, on="stretch")
            .join(erased.select(pl.col("record_id").alias(subject), until="export"), on=subject)
            .filter(pl.col("export") <= pl.col("until"))
        )
        return table.join(gone.select("stretch", subject).unique(), on=["stretch", subject], how="anti")

    names = {"patients": left("patients", "subject_id"), "patient_aliases": left("patient_aliases", "name")}
    return replace(standing, facts=standing.facts | names)


def unambiguous(aliases: pl.DataFrame) -> pl.DataFrame:
    """alias, name: pseudonyms of identifiers and of the ids they stand for; ambiguous ones are left out."""
    aliases = aliases.select("alias", "name").unique()
    return aliases.filter(~pl.col("alias").is_duplicated()).sort("alias")


def patients(standing: Standing) -> pl.DataFrame:
    """The columns of vault.PATIENTS: one row a patient, and more where two share a pseudonym."""
    found = standing.facts["patients"].drop("stretch")
    return found.unique(["subject_id", "patient"]).sort("subject_id", "patient")


def sites(standing: Standing) -> pl.DataFrame:
    """alias, site_id: what the identifiers mean by which visits name their site."""
    return unambiguous(standing.facts["site_aliases"]).rename({"name": "site_id"})


def medications(standing: Standing) -> pl.DataFrame:
    """placeholder, medicine: what each Medication resource that still exists is, by its newest version."""
    return (
        standing.facts["medications"]
        .join(places(standing), on="stretch")
        .join(deletions(standing).rename({"record_id": "id", "export": "until"}), on="id", how="left")
        .filter((pl.col("export") <= pl.col("until")).fill_null(value=False).not_())
        .sort("id", "version_time", "version_number", "rank", "position")
        .unique("id", keep="last", maintain_order=True)
        .select(placeholder=pl.concat_str(pl.lit(MEDICATION), pl.col("id").cast(pl.String)), medicine="medicine")
    )


def has_tied_medications(standing: Standing) -> bool:
    """Whether two versions of a Medication call it otherwise and do not tell which is newer; then their places do."""
    versions = standing.facts["medications"].select("id", "version_time", "version_number", "medicine").unique()
    return bool(versions.drop("medicine").is_duplicated().any())


def visit_days(standing: Standing) -> pl.DataFrame:
    """day, events: on how many true days how many visits start; a count over all patients names nobody."""
    found = standing.facts["visit_days"].group_by("day").agg(events=pl.col("visits").sum()).sort("day")
    return found.with_columns(pl.col("day").cast(pl.Int32).cast(pl.Date))
