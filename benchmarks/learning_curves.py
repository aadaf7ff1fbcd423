"""How good is each model with few labelled patients, and what do pretraining and each augmentation buy?

python -m benchmarks.learning_curves --home HOME --figures FILE [--arm "NAME:field=value,…"]… [--json]

HOME is a study with features (python -m benchmarks.models makes one); nothing is written there. For each size and
repeat so many patients are drawn of the train and tuning patients, the same ones for every arm, and the fewer among
the more; the ladder is fitted on their labels alone, tuning patients among them tune and calibrate it, and all held-out
patients judge. An arm changes fields of TransformerSettings; `+timelines` among them leaves it the timelines of the
other patients too, with hidden outcomes: their follow-up ends at once, which tells nothing, but pretraining sees them.
There is no recurrent network, which would cost as much as the transformer and has no arms.
Simple models do not depend on the arm and are taken from the first. FILE is written after each fit, and what stands in
it already is not fitted again. Told are mean, lowest and highest AUROC over the repeats.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.curves import curve_lines, curves_of
from benchmarks.league_figures import Figures
from benchmarks.site import Site, of_tasks, read_site
from features.home import Home
from features.settings import ModelSettings, StudySettings
from features.tasks.schema import load_tasks
from models.questions import KEYS
from models.risk_transformer import TransformerSettings
from models.train import train_ladder

SIZES = "50,200,1000,all"
TASKS = "inpatient_admission,mortality,new_chronic_condition,type_2_diabetes"
KEEP_TIMELINES = "+timelines"


class Arm(NamedTuple):
    """A way to train: its name, the transformer's settings, and whether it sees timelines without labels."""

    name: str
    settings: TransformerSettings
    keeps_timelines: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit every size, repeat and arm that is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="home of a study with features")
    parser.add_argument(
        "--figures", type=Path, required=True, help="JSON file of the figures, continued if it is there"
    )
    parser.add_argument("--sizes", default=SIZES, help=f"labelled patients, apart by commas (default: {SIZES})")
    parser.add_argument("--repeats", type=int, default=3, help="draws of patients for each size (default: 3)")
    parser.add_argument("--tasks", default=TASKS, help=f"names, apart by commas (default: {TASKS})")
    parser.add_argument("--arm", action="append", default=[], help='"NAME:field=value,…"; the first is the default')
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args(arguments)
    arms = [arm_of("as it is:"), *(arm_of(text) for text in options.arm)]
    settings = StudySettings(
        bootstrap_resamples=20,
        fewest_subjects_with_event=2,
        fewest_judging_subjects_with_event=1,
        models=ModelSettings(recurrent="none"),
    )
    site = of_tasks(read_site(Home(options.home), settings), options.tasks.split(","))
    found: Figures = json.loads(options.figures.read_text()) if options.figures.exists() else {"fits": {}}
    found["source"] = site.words
    for size in options.sizes.split(","):
        for repeat in range(1, options.repeats + 1):
            for arm in arms:
                name = f"{arm.name}/{size}/{repeat}"
                if name not in found["fits"]:
                    found["fits"][name] = fitted(site, arm, size, repeat, settings)
                    options.figures.parent.mkdir(parents=True, exist_ok=True)
                    options.figures.write_text(json.dumps(found, indent=1) + "\n")
    curves = curves_of(found["fits"])
    print(json.dumps({"source": site.words, "curves": curves}) if options.json else "\n".join(curve_lines(curves)))
    return 0


def arm_of(text: str) -> Arm:
    """An arm as it is written on the command line. Raises pydantic's ValidationError for a field that is not there."""
    name, _, changes = text.partition(":")
    given = [change for change in changes.split(",") if change]
    fields = dict(change.split("=", 1) for change in given if change != KEEP_TIMELINES)
    return Arm(name, TransformerSettings.model_validate(fields), KEEP_TIMELINES in given)


def fitted(site: Site, arm: Arm, size: str, repeat: int, settings: StudySettings) -> dict[str, float]:
    """AUROC on held-out patients by model and question, as model@task@days; without questions that cannot be fitted."""
    with tempfile.TemporaryDirectory() as folder:
        ladder = train_ladder(
            site.events,
            with_labels_of(site.labels, None if size == "all" else int(size), repeat, arm.keeps_timelines),
            site.features,
            site.definitions,
            settings.model_copy(update={"seed": settings.seed + repeat}),
            Path(folder) / "models",
            refused=site.refused,
            comparators={task.name: task.comparators for task in load_tasks()},
            transformer=arm.settings,
        )
    return {
        f"{model}@{task}@{days}": round(auroc, 4)
        for model, task, days, auroc in ladder.evaluations.select("model", "task", "horizon_days", "auroc").rows()
    }


def with_labels_of(labels: pl.DataFrame, size: int | None, repeat: int, keeps_timelines: bool) -> pl.DataFrame:
    """Labels of `size` patients of those not held out (all when None), drawn anew for each repeat, and of all held out.

    The others' rows go, or, to keep their timelines, become censored at day 0: nothing is known of what followed. A
    smaller size draws some of a larger one's patients.
    """
    others = labels.filter(pl.col("split") != "held_out")["subject_id"].unique().sort()
    drawn = np.random.default_rng(repeat).permutation(others.to_numpy())[:size]
    is_kept = (pl.col("split") == "held_out") | pl.col("subject_id").is_in(drawn.tolist())
    if not keeps_timelines:
        return labels.filter(is_kept)
    hidden = labels.filter(~is_kept, pl.col("horizon_days") == pl.col("horizon_days").max().over("task", *KEYS))
    hidden = hidden.with_columns(
        state=pl.lit("censored", labels.schema["state"]),
        time_to_event_days=pl.lit(0.0, labels.schema["time_to_event_days"]),
    )
    return pl.concat([labels.filter(is_kept), hidden])


if __name__ == "__main__":
    raise SystemExit(main())
