"""Is a stack better than the choice of one model, and which stack?

python -m benchmarks.stack --home HOME [--json]

HOME is a study that has run. Each way to put models together is fitted on the tuning patients of its predictions and
judged on the held-out patients, and the other way round, for each question: told are the mean AUROC; its difference to
the simpler model that ranks best where it is judged (which nobody can choose beforehand), mean and worst; and the mean
log-likelihood per outcome less that of the one model that is best where the stack is fitted. The last line with --json
is one JSON object with the same figures.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.site import home_that_ran
from features.home import Home
from features.scores.columns import BY_RACE
from features.tasks.schema import load_tasks
from models.baselines import row_log_loss
from models.calibration import fit_recalibration
from models.discrimination import auroc
from models.ladder import SEQUENCE_MODELS, STACK
from models.questions import KEYS
from models.stack import fit_stack, stacked

Numbers = NDArray[np.float64]
Outcomes = NDArray[np.bool_]
Scores = dict[str, Numbers]
Fitted = Callable[[Scores], Numbers]

READ_ALL = ("logistic_regression", "lightgbm", *SEQUENCE_MODELS)


def mean_of_standardised(scores: Scores, _events: Outcomes, _subjects: NDArray[np.int64]) -> tuple[Fitted, Numbers]:
    """Each model's log-odds on one scale, added up."""
    scales = {name: (found.mean(), found.std() or 1.0) for name, found in scores.items()}

    def together(found: Scores) -> Numbers:
        return np.mean([(found[name] - centre) / spread for name, (centre, spread) in scales.items()], axis=0)

    return together, together(scores)


def mean_of_log_odds(scores: Scores, _events: Outcomes, _subjects: NDArray[np.int64]) -> tuple[Fitted, Numbers]:
    """The mean of the log-odds as they are."""
    names = sorted(scores)

    def together(found: Scores) -> Numbers:
        return np.mean([found[name] for name in names], axis=0)

    return together, together(scores)


def mean_of_recalibrated(scores: Scores, events: Outcomes, _subjects: NDArray[np.int64]) -> tuple[Fitted, Numbers]:
    """The mean of the log-odds, each recalibrated."""
    slopes = {name: fit_recalibration(found, events).slope for name, found in scores.items()}

    def together(found: Scores) -> Numbers:
        return np.mean([slope * found[name] for name, slope in slopes.items()], axis=0)

    return together, together(scores)


def fitted_stack(scores: Scores, events: Outcomes, subjects: NDArray[np.int64]) -> tuple[Fitted, Numbers]:
    """The project's stack (models/stack.py)."""
    stack, unseen = fit_stack(scores, events, subjects, [1])
    return lambda found: stacked(stack, found), unseen


WAYS = {
    "mean of standardised log-odds": mean_of_standardised,
    "mean of log-odds": mean_of_log_odds,
    "mean of recalibrated log-odds": mean_of_recalibrated,
    "stack": fitted_stack,
}


def main() -> int:
    """Fit every way both ways round, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=home_that_ran, required=True, help="home of a study that has run")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    tables = Home(options.home).tables
    definitions = pl.read_parquet(tables / "feature_definitions.parquet")
    by_race = set(definitions.filter(pl.col("statistic") == BY_RACE)["feature"])
    barred = {one.name for task in load_tasks() for one in task.comparators if by_race & set(one.features)}
    predictions = pl.read_parquet(tables / "predictions.parquet").filter(~pl.col("model").is_in([STACK, *barred]))
    rows = [
        row
        for _, of_question in predictions.sort(KEYS).group_by("task", "horizon_days", maintain_order=True)
        for first, second in (("tuning", "held_out"), ("held_out", "tuning"))
        for row in _judged(of_question, first, second)
    ]
    summary = (
        pl.DataFrame(rows)
        .group_by("members", "way", maintain_order=True)
        .agg(
            fits=pl.len(),
            auroc=pl.col("auroc").mean(),
            to_best_simple=pl.col("difference").mean(),
            worst=pl.col("difference").min(),
            with_100_outcomes=pl.col("difference").filter(pl.col("outcomes") >= 100).mean(),
            worst_with_100=pl.col("difference").filter(pl.col("outcomes") >= 100).min(),
            gain=pl.col("gain").mean(),
            worst_gain=pl.col("gain").min(),
        )
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=160, float_precision=4):
        print(summary)
    if options.json:
        print(json.dumps({"ways": summary.to_dicts()}))
    return 0


def _judged(of_question: pl.DataFrame, fitted_on: str, judged_on: str) -> list[dict[str, object]]:
    """One row for each way and set of members, and one for the choice of one model."""
    first, second = (of_question.filter(pl.col("split") == split) for split in (fitted_on, judged_on))
    known, asked = _scores(first), _scores(second)
    one_model = next(iter(known))
    events, outcome = (part.filter(pl.col("model") == one_model)["is_event"].to_numpy() for part in (first, second))
    subjects = first.filter(pl.col("model") == one_model)["subject_id"].to_numpy()
    simple = max(auroc(found, outcome) for name, found in asked.items() if name not in SEQUENCE_MODELS)
    own = {name: _log_loss(found, events, found, events) for name, found in known.items()}
    chosen = min(own, key=lambda name: own[name])
    bar = _log_loss(known[chosen], events, asked[chosen], outcome)
    told = [("one", "best where it is fitted", auroc(asked[chosen], outcome), bar)]
    for members, names in {
        "LightGBM, sequence": ("lightgbm", *SEQUENCE_MODELS),
        "read everything": READ_ALL,
        "all": tuple(known),
    }.items():
        for way, fit in WAYS.items():
            there = {name: known[name] for name in names if name in known}
            together, unseen = fit(there, events, subjects)
            found = together(asked)
            told.append((members, way, auroc(found, outcome), _log_loss(unseen, events, found, outcome)))
    return [
        {
            "members": members,
            "way": way,
            "auroc": ranked,
            "difference": ranked - simple,
            "outcomes": int(outcome.sum()),
            "gain": float((bar - loss) / outcome.sum()),
        }
        for members, way, ranked, loss in told
    ]


def _scores(rows: pl.DataFrame) -> Scores:
    return {
        str(model): of_model["score"].to_numpy() for (model,), of_model in rows.group_by("model", maintain_order=True)
    }


def _log_loss(known: Numbers, events: Outcomes, asked: Numbers, outcome: Outcomes) -> float:
    """Sum of the loss on other rows, after recalibration on the rows that were fitted."""
    fitted = fit_recalibration(known, events)
    return float(row_log_loss(fitted.intercept + fitted.slope * asked, outcome).sum())


if __name__ == "__main__":
    raise SystemExit(main())
