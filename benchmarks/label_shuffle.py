"""Do models find anything in labels that tell nothing? Every rung of the ladder, on labels changed among patients.

python -m benchmarks.label_shuffle --home HOME [--tasks a,b] [--json]

HOME is a study that has run. The ladder is fitted anew on its events and features with the labels of other patients
(models/label_shuffle.py) and judged as ever; nothing is written there. Of 95 % intervals one in twenty misses 0.5 by
chance. The last line with --json is one JSON object: `intervals`, `hold_half`, `lowest`, `highest`, `models`
{task: {model: [auroc, low, high]}}.
"""

import argparse
import json
import tempfile
from pathlib import Path

import polars as pl

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
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    home = Home(options.home)
    labels = pl.read_parquet(home.tables / "labels.parquet")
    if options.tasks:
        labels = labels.filter(pl.col("task").is_in(options.tasks.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        ladder = train_ladder(
            events_of(home),
            shuffled_by_patient(labels, options.seed),
            pl.read_parquet(home.tables / "features.parquet"),
            pl.read_parquet(home.tables / "feature_definitions.parquet"),
            StudySettings(),
            Path(folder) / "models",
            comparators={task.name: task.comparators for task in load_tasks()},
        )
    rows = ladder.evaluations.rows(named=True)
    holds = [row["auroc_low"] <= 0.5 <= row["auroc_high"] for row in rows]
    for row, held in zip(rows, holds, strict=True):
        told = f"{row['auroc']:.3f} ({row['auroc_low']:.3f} to {row['auroc_high']:.3f})"
        print(f"{row['task']:24} {row['horizon_days']:5} d  {row['model']:24} {told}{'' if held else '  misses 0.5'}")
    print(f"{sum(holds)} of {len(rows)} intervals hold 0.5; {len(ladder.released)} models would be released")
    if options.json:
        models: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            of_task = models.setdefault(f"{row['task']}@{row['horizon_days']}", {})
            of_task[row["model"]] = [row["auroc"], row["auroc_low"], row["auroc_high"]]
        found = [row["auroc"] for row in rows]
        counts = {"intervals": len(rows), "hold_half": sum(holds)}
        print(json.dumps(counts | {"lowest": min(found), "highest": max(found), "models": models}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
