"""A study prepared for training: records read, labels and features made, and, of simulated people, the true risks."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import polars as pl

from features.errors import SequelaError
from features.feature_shards import feature_parts
from features.home import Home
from features.ingest import events_of, shards_of
from features.privacy.keys import load_key
from features.privacy.vault import unseal
from features.settings import StudySettings
from features.sources.choice import is_of_ours
from features.tasks.in_records import unanswerable
from features.tasks.schema import load_tasks
from models.questions import KEYS
from orchestration.definitions import defs
from orchestration.launch import prepare_dagster_home
from orchestration.resources import last_choices
from orchestration.source_labels import source_label

NEEDED = ("codes", "dataset", "features", "observation_periods")  # with all that is made on the way
CHEAP_TRUTH = {"treatments": "", "visits_of_each": 2}  # what treatments would change is not asked here


@dataclass(frozen=True)
class Site:
    """What the ladder is fitted and judged on. `name` is short for the source, `words` say what it is; `true_risks` is
    None unless simulated; `refused` says why these records cannot answer some questions at all."""

    name: str
    words: str
    patients: int
    events: pl.LazyFrame
    labels: pl.DataFrame
    features: pl.DataFrame
    definitions: pl.DataFrame
    refused: dict[tuple[str, int], str]
    true_risks: pl.DataFrame | None


def home_that_ran(typed: str) -> Path:
    """What was typed after --home, when the main job has run there."""
    if not (Home(Path(typed)).tables / "predictions.parquet").is_file():
        raise argparse.ArgumentTypeError(f"no study has run in {typed}: `sequela run --home {typed}`")
    return Path(typed)


def prepare(
    home: Home, source: str, patients: int | None, processes: int | None = None, seed: int | None = None
) -> None:
    """Make what is not in `home` yet: everything up to the feature table, and the true risks of simulated people.

    `source`, `patients` and `seed` as for `sequela run`. What was made before is taken as it is.
    """
    study = {
        "home_folder": str(home.path.resolve()),
        "source": source if is_of_ours(source) or "://" in source else str(Path(source).resolve()),
        "source_options": {} if patients is None else {"patients": str(patients)},
        "processes": processes or os.cpu_count() or 1,
        "seed": seed,
    }
    if not (home.tables / "features.parquet").exists():
        upstream = dg.AssetSelection.assets(*NEEDED).upstream().required_multi_asset_neighbors()
        _run(home, study, "prepare", upstream, {})
    kind = pl.read_parquet(home.tables / "dataset.parquet")["source_kind"].item()
    if kind == "simulated" and not (home.tables / "true_risks.parquet").exists():
        _run(home, study, "truth", dg.AssetSelection.assets("true_risks"), {"true_risks": {"config": CHEAP_TRUTH}})


def _run(
    home: Home,
    study: dict[str, object],
    name: str,
    selection: dg.AssetSelection,
    steps: dict[str, dict[str, dict[str, object]]],
) -> None:
    job = dg.define_asset_job(name, selection)
    prepare_dagster_home(home)
    run_config = {"resources": {"study": {"config": study}}, "ops": steps, "loggers": {"steps": {}}}
    with (
        dg.DagsterInstance.from_config(str(home.dagster), "command_line.yaml") as instance,
        contextlib.redirect_stdout(sys.stderr),
    ):
        made = dg.Definitions.merge(defs(), dg.Definitions(jobs=[job])).resolve_job_def(name)
        made.execute_in_process(instance=instance, run_config=run_config)


def read_site(home: Home, settings: StudySettings) -> Site:
    """The site that lies in `home`. Raises polars' FileNotFoundError for a home that was never prepared."""
    tables = home.tables
    read, truth = pl.read_parquet(tables / "dataset.parquet"), tables / "true_risks.parquet"
    codes = pl.read_parquet(tables / "codes.parquet")
    periods = unseal(load_key(keep_away_from=(home.path,)), tables / "observation_periods.vault")
    source = str(last_choices(home).get("source") or "simulated")
    name = source if is_of_ours(source) else _name_of(Path(source))
    words = source_label(read["source_kind"].item())
    return Site(
        name=name,
        words=words if is_of_ours(source) else f"`{name}`: {words}",
        patients=read["subjects"].item(),
        events=events_of(home),
        labels=pl.read_parquet(tables / "labels.parquet"),
        features=pl.read_parquet(tables / "features.parquet"),
        definitions=pl.read_parquet(tables / "feature_definitions.parquet"),
        refused=unanswerable(load_tasks(), codes, periods, settings),
        true_risks=pl.read_parquet(truth) if truth.exists() else None,
    )


def of_tasks(site: Site, names: Sequence[str]) -> Site:
    """The site asked for some tasks alone. Raises SequelaError when a name is that of no task."""
    if unknown := sorted(set(names) - {task.name for task in load_tasks()}):
        raise SequelaError(f"There is no task called {', '.join(unknown)}. The tasks: `ls features/tasks/*.yaml`")
    refused = {question: reason for question, reason in site.refused.items() if question[0] in names}
    return replace(site, labels=site.labels.filter(pl.col("task").is_in(names)), refused=refused)


def moved(site: Site, other: Site, other_home: Home) -> Site:
    """Train and tuning patients of `site`, and as held-out patients everybody of `other`.

    The other's feature table is made anew with the site's columns, which train patients chose. Raises SequelaError
    when a patient is at both: then the pseudonyms are of one key and one source.
    """
    at_home = site.labels.filter(pl.col("split") != "held_out")
    away = other.labels.with_columns(split=pl.lit("held_out").cast(other.labels.schema["split"]))
    if set(at_home["subject_id"].unique()) & set(away["subject_id"].unique()):
        raise SequelaError("Some patients are at both sites, so one cannot judge what was learnt at the other.")
    parts = feature_parts(shards_of(other_home), away.select(KEYS).unique(), site.definitions)
    return replace(
        site,
        words=f"learnt at {site.words}, judged at `{other.name}`",
        patients=site.patients + other.patients,
        events=pl.concat([site.events, other.events]),
        labels=pl.concat([at_home, away]),
        features=pl.concat([site.features, *parts]),
        refused=site.refused | other.refused,
        true_risks=other.true_risks,
    )


def _name_of(folder: Path) -> str:
    """The name of a folder of records; that of the folder around one that is called by its format."""
    return folder.parent.name if folder.name in ("ndjson", "bundles", "fhir") else folder.name
