"""How near do the models come to the best that anybody could do? Only of simulated people are the true risks known."""

import numpy as np
import polars as pl

from features.tables import Oracle, checked, empty
from models.discrimination import auroc, draw_resamples, interval, resampled_auroc

_KEYS = ["task", "horizon_days"]
_FEWEST_EVENTS = 10


def compare_with_oracle(predictions: pl.DataFrame, true_risks: pl.DataFrame, resamples: int, seed: int) -> pl.DataFrame:
    """Each model's AUROC beside that of the true risk, on the held-out rows whose truth was simulated.

    Reads:    `predictions`: features.tables.Predictions. `true_risks`: TrueRisks, of which only "as usual" counts.
    Returns:  Oracle; no row for a task and horizon with fewer than ten rows of either outcome.
    """
    usual = true_risks.filter(pl.col("treatment") == "as usual").select(
        "subject_id", "prediction_time", *_KEYS, truth="risk"
    )
    rows = predictions.filter(pl.col("split") == "held_out").join(usual, on=["subject_id", "prediction_time", *_KEYS])
    compared = []
    for (task, horizon), of_task in rows.group_by(_KEYS, maintain_order=True):
        for (model,), of_model in of_task.group_by("model", maintain_order=True):
            events = of_model["is_event"].to_numpy()
            if min(events.sum(), (~events).sum()) < _FEWEST_EVENTS:
                continue
            truth = of_model["truth"].to_numpy()
            drawn = draw_resamples(of_model["subject_id"].to_numpy(), resamples, [seed])
            low, high = interval(resampled_auroc(truth, events, drawn))
            reached, ceiling = auroc(of_model["score"].to_numpy(), events), auroc(truth, events)
            compared.append(
                {
                    "task": task,
                    "horizon_days": horizon,
                    "model": model,
                    "rows": of_model.height,
                    "events": int(events.sum()),
                    "auroc": reached,
                    "oracle_auroc": ceiling,
                    "oracle_low": low,
                    "oracle_high": high,
                    "oracle_share": (reached - 0.5) / (ceiling - 0.5) if not np.isclose(ceiling, 0.5) else None,
                }
            )
    table = pl.DataFrame(compared, schema=dict(empty(Oracle).schema)) if compared else empty(Oracle)
    return checked(table, Oracle)
