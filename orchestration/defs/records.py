"""Reading the records: from a folder of FHIR R4 to the MEDS dataset, with what became of every record.

The reading itself is in features.ingest; here are the assets it leaves behind and the facts that must hold.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from features import integrity
from features.ingest import IngestResult, ingest
from features.records.validation import judge_sample
from features.tables import checked
from orchestration.resources import Study
from orchestration.tables_io import CONTRACTS, checked_table, column_schema, shown_rows

fhir_records = dg.AssetSpec(
    "fhir_records",
    group_name="records",
    description="The folder of FHIR R4 records: read, never changed.",
    code_version="1",
    kinds={"file"},
)

WRITTEN_BY_INGEST = ["quarantine", "record_counts", "data_profile", "codes", "subject_splits"]


def _out(name: str, group: str, description: str) -> dg.AssetOut:
    schema = {"dagster/column_schema": column_schema(name)} if name in CONTRACTS else {}
    spec = dg.AssetSpec(
        name, group_name=group, description=description, metadata=schema, code_version="1", kinds={"polars"}
    )
    return dg.AssetOut.from_spec(spec, dagster_type=pl.DataFrame if name == "dataset" else dg.Nothing)


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
    deps=[fhir_records],
    pool="records",
)
def read_records(study: Study) -> Iterator[dg.MaterializeResult]:
    """Read the folder of FHIR records into de-identified timelines."""
    result = ingest(study.source, study.home, study.settings, processes=study.processes)
    study.remember_choices()
    version = dg.DataVersion(result.data_version)
    for name in [*WRITTEN_BY_INGEST, "timelines"]:
        yield dg.MaterializeResult(asset_key=name, data_version=version, metadata=_sizes(name, result, study))
    yield dg.MaterializeResult(asset_key="dataset", value=_dataset(result))


def _sizes(name: str, result: IngestResult, study: Study) -> dict[str, int]:
    smallest = study.settings.smallest_cell
    if name == "timelines":
        return shown_rows(result.events, smallest)
    return shown_rows(
        pl.scan_parquet(study.home.tables / f"{name}.parquet").select(pl.len()).collect().item(), smallest
    )


def _dataset(result: IngestResult) -> pl.DataFrame:
    row = {
        "source_kind": result.source_kind,
        "data_version": result.data_version,
        "subjects": result.subjects,
        "events": result.events,
        "records": result.records_in,
    }
    return checked(pl.DataFrame([row]), CONTRACTS["dataset"])


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
    specs=[dg.AssetCheckSpec("keeps_its_contract", asset=name, blocking=True) for name in WRITTEN_BY_INGEST]
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
    sample = judge_sample(study.source)
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
