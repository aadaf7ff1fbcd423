"""How near do the models come to the best that anybody could do? Only of simulated people are the true risks known."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.result_tables import Oracle
from features.tables import checked, empty
from models.discrimination import auroc, draw_resamples, interval, resampled_auroc
from models.evaluation import ranking
from models.questions import KEYS

_QUESTION = ["task", "horizon_days"]
FEWEST_EVENTS = 10


def compare_with_oracle(predictions: pl.DataFrame, true_risks: pl.DataFrame, resamples: int, seed: int) -> pl.DataFrame:
    """Each model's AUROC beside that of the true risk, on the held-out rows whose truth was simulated.

    Reads:    `predictions`: Predictions. `true_risks`: TrueRisks, of which only "as usual" counts.
    Returns:  Oracle; no row for a task and horizon with fewer than ten rows of either outcome. In each resample of
              patients model and truth are judged on the same rows, so the interval of the share is a paired one.
    """
    usual = true_risks.filter(pl.col("treatment") == "as usual").select(*KEYS, *_QUESTION, truth="risk")
    rows = predictions.filter(pl.col("split") == "held_out").join(usual, on=[*KEYS, *_QUESTION])
    compared = []
    for of_task in rows.partition_by(_QUESTION, maintain_order=True):
        by_model = of_task.sort(KEYS).partition_by("model", maintain_order=True)
        events = by_model[0]["is_event"].to_numpy()
        if min(events.sum(), (~events).sum()) < FEWEST_EVENTS:
            continue
        truth = by_model[0]["truth"].to_numpy()
        drawn = draw_resamples(by_model[0]["subject_id"].to_numpy(), resamples, [seed])
        of_truth, ceiling = resampled_auroc(truth, events, drawn), auroc(truth, events)
        oracle_low, oracle_high = interval(of_truth)
        for of_model in by_model:
            ranks = ranking(of_model["score"].to_numpy(), of_model["risk"].to_numpy())
            reached = auroc(ranks, events)
            share_low, share_high = interval(_share(resampled_auroc(ranks, events, drawn), of_truth))
            is_told = not np.isclose(ceiling, 0.5)
            compared.append(
                {
                    **of_model.select(*_QUESTION, "model").row(0, named=True),
                    "rows": of_model.height,
                    "events": int(events.sum()),
                    "auroc": reached,
                    "oracle_auroc": ceiling,
                    "oracle_low": oracle_low,
                    "oracle_high": oracle_high,
                    "oracle_share": (reached - 0.5) / (ceiling - 0.5) if is_told else None,
                    "share_low": share_low if is_told else None,
                    "share_high": share_high if is_told else None,
                }
            )
    table = pl.DataFrame(compared, schema=dict(empty(Oracle).schema)) if compared else empty(Oracle)
    return checked(table, Oracle)


def _share(reached: NDArray[np.float64], ceiling: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the model tells of what the truth tells; NaN where the truth tells nothing. Shapes: (B,), (B,) -> (B,)."""
    told = np.where(np.isclose(ceiling, 0.5), np.nan, ceiling - 0.5)
    return np.asarray((reached - 0.5) / told)
