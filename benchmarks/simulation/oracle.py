"""How well could anybody foresee the simulated outcomes: the AUROC of the true risks, beside age and sex alone.

The outcome of each row is one more life from the same state, outside the estimate of its risk; so the true risk cannot
be flattered, and no model on the records can pass it but by chance.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
from threadpoolctl import threadpool_limits

from features.sources.simulation.lives import BLOCK
from features.sources.simulation.stay_truth import risks_of_stays
from features.sources.simulation.truth import risks_of_block
from features.sources.simulation.world import Bools, Floats, load_world

_FEWEST = 20  # outcomes, and people without, for an AUROC
_RESAMPLES = 500
_SOON_DAYS, _LONGEST_DAYS = 730, 3650
# What comes soon is rarer and its futures cost less: so many times the people are asked, with more futures of each.
_MORE_PEOPLE, _MORE_COPIES = 4, 2


def true_risks(people: int, seed: int, copies: int = 200, processes: int = 2) -> pl.DataFrame:
    """Rows of features.sources.simulation.truth: of one visit of each of `people`; of up to two years for more of them.

    And of stay_truth: of every stay of all of them.
    """
    soon, later = (-(-wanted // BLOCK) for wanted in (_MORE_PEOPLE * people, people))
    tasks = [(seed, block, _MORE_COPIES * copies, _SOON_DAYS) for block in range(soon)]
    tasks += [(seed, block, copies, _LONGEST_DAYS) for block in range(later)]
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        return pl.concat(pool.map(_of_block, tasks))


def _of_block(task: tuple[int, int, int, int]) -> pl.DataFrame:
    seed, block, copies, days = task
    with threadpool_limits(1):
        risks = risks_of_block(load_world(), seed, block, copies=copies, longest_days=days)
        if days > _SOON_DAYS:
            return risks.filter(pl.col("horizon_days") > _SOON_DAYS)
        return pl.concat([risks, risks_of_stays(load_world(), seed, block)])


def oracle_table(risks: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """One row a task and horizon: rows, events, oracle_auroc (low, high), age_sex_auroc, mean standard error.

    The AUROCs are null where there are too few outcomes.
    """
    rows = []
    for (task, days), of in risks.sort("horizon_days").group_by("task", "horizon_days", maintain_order=True):
        outcome, risk = of["drawn"].to_numpy(), of["risk"].to_numpy()
        row = {"task": task, "horizon_days": days, "rows": of.height, "events": int(outcome.sum())}
        row |= dict.fromkeys(("oracle_auroc", "low", "high", "age_sex_auroc", "standard_error"))
        if min(outcome.sum(), (~outcome).sum()) >= _FEWEST:
            low, high = _interval(outcome, risk, of.select("block", "person"), np.random.default_rng(seed))
            known = of.select("age", "is_male").to_numpy().astype(float)
            model = make_pipeline(SplineTransformer(n_knots=5), LogisticRegression(max_iter=2_000))
            fitted = cross_val_predict(model, known, outcome, cv=5, method="predict_proba")[:, 1]
            row |= {"oracle_auroc": roc_auc_score(outcome, risk), "low": low, "high": high}
            row |= {
                "age_sex_auroc": roc_auc_score(outcome, fitted),
                "standard_error": float(of["standard_error"].mean()),
            }
        rows.append(row)
    order = list(dict.fromkeys(risks["task"]))
    return pl.DataFrame(rows).sort(pl.col("task").replace_strict(order, range(len(order))), "horizon_days")


def _interval(outcome: Bools, risk: Floats, people: pl.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the AUROC, by a bootstrap of people: rows in order of risk, each weighed as drawn."""
    person = people.select(pl.struct("block", "person").rank("dense")).to_series().to_numpy() - 1
    order = np.argsort(risk)
    person, outcome, first = person[order], outcome[order], np.flatnonzero(np.diff(risk[order], prepend=-1) > 0)
    values = []
    for _ in range(_RESAMPLES):
        count = int(person.max()) + 1
        weight = np.bincount(rng.integers(0, count, count), minlength=count)[person]
        with_it, without = (np.add.reduceat(weight * of, first) for of in (outcome, ~outcome))  # rows of equal risk
        below = np.cumsum(without) - without / 2
        values.append((with_it * below).sum() / (with_it.sum() * without.sum()))
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))
