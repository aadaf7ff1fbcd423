"""Landing the records and reading them: from a source of FHIR R4 to the MEDS dataset, with what became of every record.

The landing is in features.sources, the reading in features.ingest; here are the assets they leave behind and the facts
that must hold.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from features import integrity
from features.ingest import IngestResult, ingest
from features.records.validation import judge_sample
from features.sources.land import land, last_stated_day
from features.sources.landed import Manifest, changed_files, manifests_at
from features.sources.operation_outcomes import is_grave, kinds_in
from features.tables import checked
from orchestration.resources import Study
from orchestration.source_labels import source_label
from orchestration.tables_io import CONTRACTS, checked_table, column_schema, shown_rows

WRITTEN_BY_INGEST = ["quarantine", "record_counts", "data_profile", "codes", "subject_splits"]


def _out(name: str, group: str, description: str) -> dg.AssetOut:
    schema = {"dagster/column_schema": column_schema(name)} if name in CONTRACTS else {}
    spec = dg.AssetSpec(
        name, group_name=group, description=description, metadata=schema, code_version="1", kinds={"polars"}
    )
    return dg.AssetOut.from_spec(spec, dagster_type=pl.DataFrame if name == "dataset" else dg.Nothing)


@dg.asset(group_name="records", kinds={"file"}, code_version="1", pool="records")
def landed_records(study: Study) -> dg.MaterializeResult:
    """The files of FHIR R4 records that are read: made or fetched by a source, or a person's own folder as it is."""
    source = study.chosen_source
    folder = land(source, study.home, study.settings.seed, datetime.now(UTC), study.processes)
    manifests = [manifest for _, manifest in manifests_at(folder)]
    told = _manifests_as_metadata(manifests, study) if manifests else _folder_as_metadata(folder)
    return dg.MaterializeResult(metadata={"kind": source.kind, "place": dg.MetadataValue.path(folder), **told})


def _folder_as_metadata(folder: Path) -> dict[str, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def _manifests_as_metadata(manifests: list[Manifest], study: Study) -> Mapping[str, dg.MetadataValue | str | int]:
    files = [file for manifest in manifests for file in manifest.files]
    counts = sum((manifest.count_by_type() for manifest in manifests), Counter[str]())
    shown = {name: count for name, count in sorted(counts.items()) if count >= study.settings.smallest_cell}
    return {
        "origin": manifests[-1].origin,
        "landed_at": manifests[-1].made_at,
        "covers_until": manifests[-1].covers_until or "not stated",
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "resources": dg.MetadataValue.json(shown),
        "landings": len(manifests),
        "issues": ", ".join(_issues(manifests)) or "none",
    }


def _issues(manifests: list[Manifest]) -> list[str]:
    """What the server said it could not export, by kind."""
    return sorted({kind for one in manifests for kind in kinds_in(str(one.parameters.get("issues", "")))})


@dg.asset_check(asset=landed_records, blocking=True)
def landed_files_are_whole(study: Study) -> dg.AssetCheckResult:
    """Every landed file has the size and the sha256 that its manifest states. A folder without one passes."""
    changed = [name for folder, manifest in manifests_at(study.records) for name in changed_files(folder, manifest)]
    told = (
        f"{len(changed):,} of the files that were landed in {study.records} are missing or changed. Run again to land "
        "them anew (with --full from a FHIR server); a copy of a landed folder wants copying again."
    )
    return dg.AssetCheckResult(passed=not changed, description=told if changed else None)


@dg.asset_check(asset=landed_records)
def the_server_exported_everything(study: Study) -> dg.AssetCheckResult:
    """The FHIR server named no records that it could not export. Other sources pass."""
    issues = _issues([manifest for _, manifest in manifests_at(study.records)])
    told = (
        f"The FHIR server could not export everything (it names {', '.join(issues)}), so records may be missing. What "
        "came was added, and the next run asks for the rest. If it stays so, ask those who run the server."
    )
    passed = not is_grave(issues)
    return dg.AssetCheckResult(passed=passed, description=None if passed else told, severity=dg.AssetCheckSeverity.WARN)


@dg.multi_asset(
    outs={
        "quarantine": _out("quarantine", "records", "Records that could not be read: where they lie and why."),
        "record_counts": _out("record_counts", "records", "What became of every record read."),
        "data_profile": _out("data_profile", "records", "Oddities of the source that were handled, counted."),
        "dataset": _out("dataset", "records", "What was read: kind of source, digest, sizes."),
        "timelines": _out("timelines", "timelines", "Every patient's events in order: a MEDS 0.4 dataset."),
        "codes": _out("codes", "timelines", "Every code met, with its wording and frequency."),
        "subject_splits": _out("subject_splits", "timelines", "Which part of the study each patient belongs to."),
    },
    deps=[landed_records],
    pool="records",
)
def read_records(study: Study) -> Iterator[dg.MaterializeResult]:
    """Read the landed records into de-identified timelines."""
    result = ingest(study.records, study.home, study.settings, processes=study.processes)
    study.remember_choices()
    version = dg.DataVersion(result.data_version)
    for name in [*WRITTEN_BY_INGEST, "timelines"]:
        yield dg.MaterializeResult(asset_key=name, data_version=version, metadata=_sizes(name, result, study))
    yield dg.MaterializeResult(asset_key="dataset", value=_dataset(result, study))


def _sizes(name: str, result: IngestResult, study: Study) -> dict[str, int]:
    smallest = study.settings.smallest_cell
    if name == "timelines":
        return shown_rows(result.events, smallest)
    return shown_rows(
        pl.scan_parquet(study.home.tables / f"{name}.parquet").select(pl.len()).collect().item(), smallest
    )


def _dataset(result: IngestResult, study: Study) -> pl.DataFrame:
    years_kept = {manifest.parameters.get("years_of_history") for _, manifest in manifests_at(study.records)}
    row = {
        "source": source_label(result.source_kind),
        "source_kind": result.source_kind,
        "is_windowed": result.source_kind == "synthea" and years_kept != {0},
        "covers_until": last_stated_day(study.chosen_source, study.home),
        "data_version": result.data_version,
        "subjects": result.subjects,
        "events": result.events,
        "records": result.records_in,
    }
    return checked(pl.DataFrame([row], schema_overrides={"covers_until": pl.Date}), CONTRACTS["dataset"])


def _verdict(found: int, what: str, smallest_cell: int) -> dg.AssetCheckResult:
    """Passed when nothing was found; a small count is not told, since it could point at people."""
    shown = f"{found:,}" if found >= smallest_cell else f"fewer than {smallest_cell}"
    return dg.AssetCheckResult(passed=found == 0, description=None if found == 0 else f"{shown} {what}.")


@dg.asset_check(asset="timelines", blocking=True)
def events_keep_their_contract(study: Study) -> dg.AssetCheckResult:
    """Events have exactly the columns and types of features.tables.Events, and nulls only where they may be."""
    broken = integrity.count_contract_breaks(study.events())
    return _verdict(broken, "columns or values break the contract of events", study.settings.smallest_cell)


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "keeps_its_contract",
            asset=name,
            blocking=True,
            description=f"{name} has exactly the columns and types of its contract, and only values that it allows.",
        )
        for name in WRITTEN_BY_INGEST
    ]
)
def tables_keep_their_contracts(study: Study) -> Iterator[dg.AssetCheckResult]:
    """The tables written by ingest have the columns, types and values of their contracts."""
    for name in WRITTEN_BY_INGEST:
        checked_table(name, pl.read_parquet(study.home.tables / f"{name}.parquet"))
        yield dg.AssetCheckResult(passed=True, asset_key=name, check_name="keeps_its_contract")


@dg.asset_check(
    asset="timelines",
    blocking=True,
    additional_ins={name: dg.AssetIn(name) for name in ("dataset", "record_counts", "quarantine")},
)
def every_record_is_accounted_for(
    study: Study, dataset: pl.LazyFrame, record_counts: pl.LazyFrame, quarantine: pl.LazyFrame
) -> dg.AssetCheckResult:
    """Records read = sources of events + ignored for a reason + quarantined."""
    records_in = int(dataset.collect()["records"].item())
    balance = integrity.balance_records(records_in, study.events(), record_counts.collect(), quarantine)
    lost = f"{abs(balance.unexplained):,} of {records_in:,} records are lost or counted twice."
    return dg.AssetCheckResult(passed=balance.is_balanced, description=None if balance.is_balanced else lost)


@dg.asset_check(asset="timelines", blocking=True, additional_ins={"dataset": dg.AssetIn("dataset")})
def every_landed_record_was_read(study: Study, dataset: pl.LazyFrame) -> dg.AssetCheckResult:
    """As many records were read as the manifest counts. Not asked where there is none, or where exports add up."""
    manifests = manifests_at(study.records)
    is_whole = len(manifests) == 1 and (manifests[0][0] == study.records or study.chosen_source.kind == "fhir_server")
    if not is_whole or manifests[0][1].since or manifests[0][1].deleted:
        return dg.AssetCheckResult(passed=True, description="There is no count of all records to compare with.")
    manifest = manifests[0][1]
    landed, read = sum(file.resources for file in manifest.files), int(dataset.collect()["records"].item())
    told = f"{landed:,} records were landed, {read:,} were read. Other files may lie in {study.records}."
    return dg.AssetCheckResult(passed=landed == read, description=told if landed != read else None)


@dg.asset_check(asset="timelines", blocking=True, additional_ins={"subject_splits": dg.AssetIn("subject_splits")})
def no_subject_in_two_splits(study: Study, subject_splits: pl.LazyFrame) -> dg.AssetCheckResult:
    """Each patient lies in one file, in the folder of the patient's own split."""
    misplaced = integrity.count_misplaced_subjects(study.home.meds, subject_splits)
    return _verdict(misplaced, "patients lie in two places or in the wrong split", study.settings.smallest_cell)


@dg.asset_check(asset="timelines", blocking=True, additional_ins={"record_counts": dg.AssetIn("record_counts")})
def pseudonyms_do_not_collide(study: Study, record_counts: pl.LazyFrame) -> dg.AssetCheckResult:
    """There are as many pseudonyms in the timelines as Patient records were used."""
    merged = integrity.count_merged_patients(study.events(), record_counts)
    return _verdict(merged, "patients share a pseudonym with another", study.settings.smallest_cell)


@dg.asset_check(asset="timelines", blocking=True)
def no_event_after_death(study: Study) -> dg.AssetCheckResult:
    """Nothing happens to a patient after death."""
    after = integrity.count_events_after_death(study.events())
    return _verdict(after, "events lie after the patient's death", study.settings.smallest_cell)


@dg.asset_check(asset="timelines", blocking=True)
def known_time_never_before_time(study: Study) -> dg.AssetCheckResult:
    """Nothing is known before it happened."""
    early = integrity.count_known_before_time(study.events())
    return _verdict(early, "events were known before they happened", study.settings.smallest_cell)


@dg.asset_check(asset="timelines")
def sampled_records_follow_r4(study: Study) -> dg.AssetCheckResult:
    """The first records of each file are valid FHIR R4 by the judgement of fhir.resources; a warning, no more."""
    sample = judge_sample(study.records)
    commonest = ", ".join(f"{rule} ({count})" for rule, count in sample.rules)
    return dg.AssetCheckResult(
        passed=sample.broken == 0,
        description=f"{sample.broken} of {sample.judged} sampled records are not valid R4, most often: {commonest}. "
        "They are read all the same."
        if sample.broken
        else None,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "records_judged": sample.judged,
            "records_broken": sample.broken,
            "commonest": commonest,
        },
    )
