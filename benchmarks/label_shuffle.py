"""Do models find anything in labels that tell nothing? Every rung of the ladder, on labels changed among patients.

python -m benchmarks.label_shuffle --home HOME [--tasks a,b] [--shuffles 8] [--json]

HOME is a study that has run. The ladder is fitted anew on its events and features with the labels of other patients
(models/label_shuffle.py) and judged as ever; nothing is written there. All rungs of a question share one shuffle, and a
patient with many rows weighs much in it, so one shuffle says little: told is the mean AUROC of several, with its 95 %
interval (Student's t over the shuffles). One such interval in twenty misses 0.5 by chance. The last line with --json
is one JSON object: `intervals`, `hold_half`, `lowest`, `highest`, `models` {task@days: {model: [mean, low, high]}}.
"""

import argparse
import json
import tempfile
from pathlib import Path

import polars as pl
from scipy.stats import t

from features.home import Home
from features.ingest import events_of
from features.settings import StudySettings
from features.tasks.schema import load_tasks
from models.label_shuffle import shuffled_by_patient
from models.train import train_ladder


def main() -> int:
    """Fit the ladder on shuffled labels and print each rung's AUROC."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="home of a study that has run")
    parser.add_argument("--tasks", help="names, apart by commas (default: all)")
    parser.add_argument("--shuffles", type=int, default=8, help="how many (default: 8)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    home = Home(options.home)
    labels = pl.read_parquet(home.tables / "labels.parquet")
    if options.tasks:
        labels = labels.filter(pl.col("task").is_in(options.tasks.split(",")))
    found = pl.concat([_on_shuffled(home, labels, seed) for seed in range(1, options.shuffles + 1)])
    # In some shuffles a question has too few outcomes to be judged; of one alone there is no interval.
    students = {count: float(t.ppf(0.975, count - 1)) for count in range(2, options.shuffles + 1)}
    half_width = pl.col("auroc").std() / pl.len().sqrt() * pl.len().replace_strict(students, default=None)
    rungs = (
        found.group_by("task", "horizon_days", "model", maintain_order=True)
        .agg(auroc=pl.col("auroc").mean(), half_width=half_width, shuffles=pl.len())
        .filter(pl.col("shuffles") > 1)
        .with_columns(low=pl.col("auroc") - pl.col("half_width"), high=pl.col("auroc") + pl.col("half_width"))
        .with_columns(holds=pl.lit(0.5).is_between("low", "high"))
        .sort("task", "horizon_days", maintain_order=True)
    )
    for row in rungs.iter_rows(named=True):
        told = f"{row['auroc']:.3f} ({row['low']:.3f} to {row['high']:.3f}) over {row['shuffles']}"
        print(
            f"{row['task']:24} {row['horizon_days']:5} d  {row['model']:24} {told}{'' if row['holds'] else '  misses'}"
        )
    print(f"{rungs['holds'].sum()} of {rungs.height} intervals hold 0.5")
    if options.json:
        models: dict[str, dict[str, list[float]]] = {}
        for row in rungs.iter_rows(named=True):
            of_task = models.setdefault(f"{row['task']}@{row['horizon_days']}", {})
            of_task[row["model"]] = [row["auroc"], row["low"], row["high"]]
        counts = {"intervals": rungs.height, "hold_half": rungs["holds"].sum()}
        extremes = {"lowest": rungs["auroc"].min(), "highest": rungs["auroc"].max()}
        print(json.dumps(counts | extremes | {"models": models}))
    return 0


def _on_shuffled(home: Home, labels: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Evaluations of the ladder that was fitted, calibrated and judged on one shuffle of the labels."""
    with tempfile.TemporaryDirectory() as folder:
        ladder = train_ladder(
            events_of(home),
            shuffled_by_patient(labels, seed),
            pl.read_parquet(home.tables / "features.parquet"),
            pl.read_parquet(home.tables / "feature_definitions.parquet"),
            StudySettings(bootstrap_resamples=20, seed=seed),
            Path(folder) / "models",
            comparators={task.name: task.comparators for task in load_tasks()},
        )
    return ladder.evaluations


if __name__ == "__main__":
    raise SystemExit(main())
