"""How near do the forecasts of laboratory values and vital signs come, and do their bands cover? On held-out patients.

python -m benchmarks.trajectories --home HOME [--json]

HOME is a study that has run. All models are fitted anew and judged (models/trajectories/training.py); nothing is
written there. Prints the tables of docs/trajectories.md. The last line with --json is one JSON object: `source`,
`seconds`, `peak_mib`, `not_forecast` {setting.measure: reason}, `measures` {setting.measure: {unit, released,
best_simple, values, subjects, models: {model: {crps, crps_low, crps_high, absolute_error, raw_coverage, coverage,
coverage_low, coverage_high, raw_width, width, difference, difference_low, difference_high}}}}.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.site import home_that_ran
from features.home import Home
from features.ingest import events_of
from features.privacy.keys import load_key
from features.privacy.vault import unseal
from models.trajectories.training import TrainedTrajectories, train_trajectories
from orchestration.resources import Study
from orchestration.source_labels import source_label

_TOLD = ["crps", "crps_low", "crps_high", "absolute_error", "raw_coverage", "coverage", "coverage_low", "coverage_high"]
_TOLD += ["raw_width", "width", "difference", "difference_low", "difference_high"]


def main() -> int:
    """Fit, judge and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=home_that_ran, required=True, help="home of a study that has run")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    home = Home(options.home)
    periods = unseal(load_key(keep_away_from=(home.path,)), home.tables / "observation_periods.vault")
    splits = pl.read_parquet(home.tables / "subject_splits.parquet")
    settings = Study(home_folder=str(options.home)).settings
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = train_trajectories(events_of(home), periods, splits, settings, Path(folder) / "models")
    seconds = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    source = source_label(pl.read_parquet(home.tables / "dataset.parquet")["source_kind"].item())
    print(f"{source}; {seconds:,.0f} s, {peak_mib:,.0f} MiB\n")
    print("\n".join([*_accuracy(found), "", *_coverage(found)]))
    left_out = found.measures.filter(pl.col("model").is_null())
    reasons = {f"{row['setting']}.{row['measure']}": row["reason"] for row in left_out.iter_rows(named=True)}
    for name, reason in reasons.items():
        print(f"not forecast: {name}: {reason}")
    if options.json:
        shared = {"source": source, "seconds": round(seconds, 1), "peak_mib": round(peak_mib)}
        print(json.dumps(shared | {"not_forecast": reasons, "measures": _as_objects(found)}))
    return 0


def _accuracy(found: TrainedTrajectories) -> list[str]:
    """The CRPS of each model, all steps together, as a Markdown table."""
    models = found.evaluations["model"].unique(maintain_order=True).to_list()
    lines = [f"| measure | values | {' | '.join(models)} | released | less best simple one |"]
    lines.append("|---" * (len(models) + 4) + "|")
    for (setting, measure), rows in _of_all_steps(found):
        by_model = {row["model"]: row for row in rows.iter_rows(named=True)}
        released = next(row for row in by_model.values() if row["is_released"])
        each = [f"{row['crps']:.4g}{' *' if row['is_best_simple'] else ''}" for row in by_model.values()]
        difference = f"{released['difference']:+.3g} ({released['difference_low']:+.3g} to "
        difference += f"{released['difference_high']:+.3g})"
        lines.append(
            f"| {setting} {measure}, {released['unit']} | {released['values']:,} | {' | '.join(each)} "
            f"| {released['model']} | {difference} |"
        )
    return lines


def _coverage(found: TrainedTrajectories) -> list[str]:
    """The 80 % band of the released model before and after its correction, as a Markdown table."""
    lines = ["| measure | released | covered before | width before | covered after | width after |", "|---" * 6 + "|"]
    for (setting, measure), rows in _of_all_steps(found):
        row = rows.filter("is_released").row(0, named=True)
        lines.append(
            f"| {setting} {measure} | {row['model']} | {row['raw_coverage']:.1%} | {row['raw_width']:.3g} "
            f"| {row['coverage']:.1%} ({row['coverage_low']:.1%} to {row['coverage_high']:.1%}) | {row['width']:.3g} |"
        )
    return lines


def _of_all_steps(found: TrainedTrajectories) -> list[tuple[tuple[str, str], pl.DataFrame]]:
    """Evaluations of all steps together, for each setting and measure."""
    rows = found.evaluations.filter(pl.col("step") == 0)
    parts = rows.partition_by("setting", "measure", maintain_order=True)
    return [((part["setting"][0], part["measure"][0]), part) for part in parts]


def _as_objects(found: TrainedTrajectories) -> dict[str, dict[str, object]]:
    objects: dict[str, dict[str, object]] = {}
    for (setting, measure), rows in _of_all_steps(found):
        by_model = {row["model"]: {name: row[name] for name in _TOLD} for row in rows.iter_rows(named=True)}
        released, simple = (rows.filter(flag)["model"].item() for flag in ("is_released", "is_best_simple"))
        counts = {name: rows[name][0] for name in ("unit", "values", "subjects")}
        objects[f"{setting}.{measure}"] = {**counts, "released": released, "best_simple": simple, "models": by_model}
    return objects


if __name__ == "__main__":
    raise SystemExit(main())
