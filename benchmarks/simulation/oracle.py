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
from features.sources.simulation.truth import risks_of_block
from features.sources.simulation.world import load_world

_FEWEST = 20  # outcomes, and people without, for an AUROC
_RESAMPLES = 500


def true_risks(
    people: int, seed: int, copies: int, months: int, treatments: tuple[str, ...] = (), processes: int = 2
) -> pl.DataFrame:
    """RISKS of features.sources.simulation.truth for one visit of each of `people` people."""
    blocks = -(-people // BLOCK)
    tasks = [(seed, b, min(BLOCK, people - b * BLOCK), copies, months, treatments) for b in range(blocks)]
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        return pl.concat(pool.map(_of_block, tasks))


def _of_block(task: tuple) -> pl.DataFrame:
    seed, block, wanted, copies, months, treatments = task
    with threadpool_limits(1):
        return risks_of_block(load_world(), seed, block, wanted, 1, copies, treatments, months)


def oracle_table(risks: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """One row a task and horizon: rows, events, oracle_auroc (low, high), age_sex_auroc, mean standard error."""
    rows = []
    usual = risks.filter(pl.col("treatment") == "as usual")
    for (task, months), of in usual.group_by("task", "horizon_months", maintain_order=True):
        outcome, risk = of["drawn"].to_numpy(), of["risk"].to_numpy()
        if min(outcome.sum(), (~outcome).sum()) < _FEWEST:
            rows.append((task, months, of.height, int(outcome.sum()), None, None, None, None, None))
            continue
        low, high = _interval(outcome, risk, np.random.default_rng(seed))
        known = of.select("age", "is_male").to_numpy().astype(float)
        model = make_pipeline(SplineTransformer(n_knots=5), LogisticRegression(max_iter=2_000))
        fitted = cross_val_predict(model, known, outcome, cv=5, method="predict_proba")[:, 1]
        noise = float(of["standard_error"].mean())
        rows.append(
            (
                task,
                months,
                of.height,
                int(outcome.sum()),
                roc_auc_score(outcome, risk),
                low,
                high,
                roc_auc_score(outcome, fitted),
                noise,
            )
        )
    names = [
        "task",
        "horizon_months",
        "rows",
        "events",
        "oracle_auroc",
        "low",
        "high",
        "age_sex_auroc",
        "standard_error",
    ]
    return pl.DataFrame(rows, schema=names, orient="row")


def _interval(outcome: np.ndarray, risk: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    values = []
    for _ in range(_RESAMPLES):
        at = rng.integers(0, len(outcome), len(outcome))
        if 0 < outcome[at].sum() < len(at):
            values.append(roc_auc_score(outcome[at], risk[at]))
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
