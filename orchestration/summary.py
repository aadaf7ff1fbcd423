"""What a run ends with: the same facts as JSON for machines and as a few lines for the person at the terminal."""

import json
import shutil
import sys
from datetime import date, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import polars as pl
import polars.selectors as cs

from features.counted import counted
from features.home import Home
from features.privacy.keys import key_file
from features.tasks.moments import KEYS
from features.tasks.schema import load_tasks
from orchestration.beside import beside
from orchestration.source_labels import source_label

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

_LIBRARIES = ("sequela", "polars", "duckdb", "dagster", "torch", "lightgbm", "scikit-learn", "meds")
_LONGEST_REASON = 160  # characters
_HEADS = {
    "logistic_regression": "LR",
    "lightgbm": "LightGBM",
    "gru_d": "GRU-D",
    "retain": "RETAIN",
    "timeline_transformer": "transformer",
    "stack": "stack",
}
_MEASURES = ("auroc", "auroc_low", "auroc_high", "brier", "calibration_slope")


def summarise(home: Home, as_of: date, seconds: dict[str, float]) -> dict[str, Json]:
    """The run's summary from the tables that it left in `home`.

    A task's `rows` are the prediction times of all patients whose outcome is known (not censored), and `events`
    those followed by the outcome; the models are judged on the held-out patients among them. In `tasks` and `released`
    a task with one horizon stands under its name, and one with several as name@days, once for each horizon.
    """
    dataset = _table(home, "dataset").row(0, named=True)
    records: dict[str, Json] = {"in": dataset["records"], "used": 0, "ignored": 0, "quarantined": 0}
    records |= dict(_outcomes(home).iter_rows())
    labels, evaluations = _table(home, "labels"), _table(home, "evaluations")
    released = evaluations.filter("is_released").select("task", "horizon_days", "model").iter_rows()
    return {
        "patients": dataset["subjects"],
        "events": dataset["events"],
        "records": records,
        "tasks": _tasks(home, labels, evaluations),
        "released": {question_name(task, horizon): model for task, horizon, model in released},
        "skipped": dict(_table(home, "skipped_tasks").select("task", "reason").iter_rows()),
        "seconds": dict(seconds),
        "scores": scores_of(home, as_of),
        "warnings": list(_damaged_files(home)),
        "source": source_label(dataset["source_kind"]),
        "as_of": as_of.isoformat(),
        "data_version": dataset["data_version"],
        "key_file": str(key_file()),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def write_summary(home: Home, summary: dict[str, Json]) -> None:
    """Write <home>/summary.json, whole or not at all."""
    building = beside(home.summary)
    building.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    building.replace(home.summary)


def summary_lines(home: Home, as_of: date, smallest_cell: int) -> list[str]:
    """The summary for the terminal; counts of people below `smallest_cell` are not told."""
    dataset = _table(home, "dataset").row(0, named=True)
    evaluations, skipped = _table(home, "evaluations"), _table(home, "skipped_tasks")
    is_example, is_ours = (dataset["source_kind"] in kinds for kinds in (["example"], ["example", "simulated"]))
    became = ", ".join(f"{records:,} {outcome}" for outcome, records in _outcomes(home).iter_rows())
    scores = scores_of(home, as_of)
    return [
        "",
        f"Records: {source_label(dataset['source_kind'])}",
        f"{counted(dataset['subjects'], 'patient')}, {counted(dataset['events'], 'event')}",
        f"{counted(dataset['records'], 'record')}: {became}",
        *_left_out_lines(home),
        "",
        *_task_lines(_table(home, "labels"), evaluations, _table(home, "audits"), smallest_cell),
        *_without_scores_lines(skipped, judged=set(evaluations["task"])),
        "",
        f"  scores     {counted(scores, 'risk')} as of {as_of}, the last day of these records",
        *unlike_lines(home, as_of, smallest_cell),
        f"  warehouse  {home.warehouse}",
        f"  report     {home.report / 'index.html'}",
        f"  key        {key_file()} (keep it: without it no score finds its patient)",
        "",
        "Type next:",
        *_next_lines(home, as_of, is_example, is_ours, bool(evaluations.height), bool(skipped.height)),
    ]


def scores_of(home: Home, as_of: date) -> int:
    """How many risks stand in the table of one real day; a patient unlike those learnt from has a row without one."""
    scores = pl.scan_parquet(home.tables / "risk_scores" / f"{as_of}.parquet")
    return int(scores.select(pl.col("risk").count()).collect().item())


def unlike_lines(home: Home, as_of: date, smallest_cell: int) -> list[str]:
    """How many patients got no risk for some task because they are unlike those learnt from; none without any."""
    rows = pl.scan_parquet(home.tables / "risk_scores" / f"{as_of}.parquet").filter("is_unlike")
    patients = int(rows.select(pl.col("subject_id").n_unique()).collect().item())
    if not patients:
        return []
    told = counted(patients, "patient") if patients >= smallest_cell else f"fewer than {smallest_cell} patients"
    return [f"  no risk    {told} unlike those learnt from, for some task (FROM risk_scores WHERE is_unlike)"]


def command_name() -> str:
    """How `sequela` is called from here: by its name where that is found, else by its place in the virtual env."""
    place = Path(sys.executable).with_name("sequela")
    if shutil.which("sequela"):
        return "sequela"
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)


def question_name(task: str, horizon_days: int) -> str:
    """The task's name; with @days after it where the task asks for several horizons."""
    return f"{task}@{horizon_days}" if task in _with_several_horizons() else task


@cache
def _with_several_horizons() -> frozenset[str]:
    return frozenset(task.name for task in load_tasks() if len(task.horizons_days) > 1)


def _tasks(home: Home, labels: pl.DataFrame, evaluations: pl.DataFrame) -> dict[str, Json]:
    from models.ladder import shares_with_value

    audits, features = _table(home, "audits"), pl.scan_parquet(home.tables / "features.parquet")
    comparators = {task.name: task.comparators for task in load_tasks()}
    compared = {column for of_task in comparators.values() for one in of_task for column in one.features}
    values = features.select(cs.by_name(*KEYS, *sorted(compared), require_all=False)).collect()
    tasks: dict[str, Json] = {}
    for task, horizon in evaluations.select("task", "horizon_days").unique(maintain_order=True).iter_rows():
        known = _known(labels, task, horizon)
        rows = evaluations.filter(task=task, horizon_days=horizon).iter_rows(named=True)
        shares = shares_with_value(known, values, comparators.get(task, ())) if known.height else {}
        models: dict[str, Json] = {
            row["model"]: {name: row[name] for name in _MEASURES}
            | ({"share_with_value": round(shares[row["model"]], 4)} if row["model"] in shares else {})
            for row in rows
        }
        audit = audits.filter(task=task, horizon_days=horizon).select("auroc", "age_sex_auroc", "verdict")
        tasks[question_name(task, horizon)] = {
            "rows": known.height,
            "events": _with_event(known).height,
            "models": models,
            "audit": audit.row(0, named=True) if audit.height else None,
        }
    return tasks


def _task_lines(labels: pl.DataFrame, evaluations: pl.DataFrame, audits: pl.DataFrame, smallest_cell: int) -> list[str]:
    """One line a task and horizon, aligned; the released model is marked, and its calibration slope shown.

    Of a task's comparators only the best stands here, with its name.
    """
    from models.ladder import comparators_of

    if evaluations.is_empty():
        return ["No task could be fitted and judged on these records:"]
    compared = comparators_of(evaluations["model"])
    columns = [model for model in evaluations["model"].unique(maintain_order=True) if model not in compared]
    names = [_HEADS.get(model, model) for model in columns]
    heads = [names[0], *(["best comparator"] * bool(compared)), *names[1:]]
    lines = [["task", "patients", "times", "events", *heads, "slope"]]
    for task, horizon in evaluations.select("task", "horizon_days").unique(maintain_order=True).iter_rows():
        known = _known(labels, task, horizon)
        rows = evaluations.filter(task=task, horizon_days=horizon)
        shown = [_auroc_shown(rows.filter(pl.col("model") == model)) for model in columns]
        best = rows.filter(pl.col("model").is_in(compared)).sort("auroc", descending=True).head(1)
        scores = [" ".join([_auroc_shown(best), *best["model"]])] * bool(compared)
        lines.append(
            [
                question_name(task, horizon),
                f"{known['subject_id'].n_unique():,}",
                f"{known.height:,}",
                _events_shown(known, smallest_cell),
                *[shown[0], *scores, *shown[1:]],
                _slope_shown(rows.filter(pl.col("is_released"))),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    given_away = audits.filter(verdict="gives away").select("task", "horizon_days").iter_rows()
    return [
        *("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines),
        "Patients, prediction times and outcomes (events) of all parts; AUROC on held-out patients, 95 % interval.",
        "* gives the scores, as the best on tuning patients; slope is its calibration on held-out ones (1 is right).",
        *["The best comparator is that with the highest AUROC here; all of them: FROM evaluations."] * bool(compared),
        *(
            f"WARNING: the way these records were kept gives {question_name(*asked)} away: FROM audits"
            for asked in given_away
        ),
    ]


def _left_out_lines(home: Home) -> list[str]:
    """What was not read: files that hold no FHIR, and records in quarantine with the number of their reasons."""
    left_alone = int(_table(home, "data_profile").filter(finding="files_without_fhir")["count"].sum())
    reasons = _table(home, "quarantine")["reason"].n_unique()
    quarantined = f"quarantined for {counted(reasons, 'reason')}: FROM quarantine"
    return [
        *(f"WARNING: {warning}" for warning in _damaged_files(home)),
        *([f"{counted(left_alone, 'other file')} left alone: no FHIR inside"] * (left_alone > 0)),
        *([quarantined] * (reasons > 0)),
    ]


def _damaged_files(home: Home) -> list[str]:
    """Files of which an unknown number of records is missing, with what to do; a row of the quarantine each."""
    damaged = _table(home, "quarantine").filter(pl.col("reason").str.starts_with("compressed"))
    return [
        f"{file} could not be read to its end ({reason}); what followed is missing here. Copy it again and run again."
        for file, reason in damaged.select("file", "reason").iter_rows()
    ]


def _without_scores_lines(skipped: pl.DataFrame, judged: set[str]) -> list[str]:
    """Why a task gives no scores: these records cannot answer it, or no model that was judged deserves it.

    What holds of several tasks is told once.
    """
    reasons = dict(skipped.iter_rows())
    alike = {
        "Too few patients had the outcome, or did not: ": [
            task for task, reason in reasons.items() if task not in judged and reason.startswith("within ")
        ],
        "No model told more than the base rate, at some horizon at least: ": [
            task for task in reasons if task in judged
        ],
    }
    told = {words: tasks for words, tasks in alike.items() if len(tasks) > 1}
    grouped = {task for tasks in told.values() for task in tasks}
    return [
        *(f"{words}{', '.join(tasks)} (in full: FROM skipped_tasks)" for words, tasks in told.items()),
        *(
            f"{task} {'gives no scores' if task in judged else 'was skipped'}: {_shortened(reason)}"
            for task, reason in reasons.items()
            if task not in grouped
        ),
    ]


def _next_lines(
    home: Home, as_of: date, is_example: bool, is_ours: bool, has_evaluations: bool, has_skipped: bool
) -> list[str]:
    """Commands worth typing now."""
    sequela, at_home = command_name(), _home_option(home)
    tables = [
        *(["evaluations SELECT task, horizon_days, model, auroc, auroc_low, auroc_high"] if has_evaluations else []),
        *(["skipped_tasks"] if has_skipped else []),
        *(["quarantine"] if _table(home, "quarantine").height else []),
    ]
    has_scores = scores_of(home, as_of) > 0
    return [
        *(f'  {sequela} sql{at_home} "FROM {table}"' for table in tables),
        *(["  make run FROM=<folder of FHIR records>"] if is_ours else []),
        *([f"  {sequela} score{at_home} --as-of {as_of - timedelta(days=7)}"] if has_scores and not is_example else []),
        f"  {sequela} ui{at_home}",
    ]


def _events_shown(known: pl.DataFrame, smallest_cell: int) -> str:
    with_event = _with_event(known)
    is_small = with_event["subject_id"].n_unique() < smallest_cell
    return f"<{smallest_cell}" if is_small else f"{with_event.height:,}"


def _auroc_shown(rows: pl.DataFrame) -> str:
    shown = [
        f"{auroc:.2f} ({low:.2f}-{high:.2f}){'*' if is_released else ''}"
        for auroc, low, high, is_released in rows.select("auroc", "auroc_low", "auroc_high", "is_released").iter_rows()
    ]
    return shown[0] if shown else ""


def _slope_shown(rows: pl.DataFrame) -> str:
    slopes = rows["calibration_slope"].drop_nulls().to_list()
    return f"{slopes[0]:.2f}" if slopes else ""


def _shortened(reason: str) -> str:
    """The reason in one line: whole, or as many of its parts as fit and where to find the others."""
    if len(reason) <= _LONGEST_REASON:
        return reason
    parts, _, rest = reason[:_LONGEST_REASON].rpartition(", ")
    return f"{parts or rest.rpartition(' ')[0]}, … (all of it: FROM skipped_tasks)"


def _known(labels: pl.DataFrame, task: str, horizon_days: int) -> pl.DataFrame:
    return labels.filter(pl.col("state") != "censored", task=task, horizon_days=horizon_days)


def _with_event(labels: pl.DataFrame) -> pl.DataFrame:
    return labels.filter(pl.col("state") == "event")


def _outcomes(home: Home) -> pl.DataFrame:
    """Records by what became of them: outcome, records; used first."""
    counts = _table(home, "record_counts").group_by("outcome").agg(pl.col("records").sum())
    return counts.sort("outcome", descending=True)


def _home_option(home: Home) -> str:
    return "" if home.path.resolve() == Path("sequela-home").resolve() else f" --home {home.path}"


def _table(home: Home, name: str) -> pl.DataFrame:
    return pl.read_parquet(home.tables / f"{name}.parquet")
