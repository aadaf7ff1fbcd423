"""The league as numbers for machines: one entry a question, one a model."""

from collections.abc import Iterable
from math import isnan
from typing import Any

import polars as pl

from benchmarks.main_job import peak_mb
from models.costs import FIT, FORECAST, Cost

Figures = dict[str, Any]  # what json.dumps writes
STACK, TRANSFORMER = "stack", "timeline_transformer"
_OF_MODEL = (
    *("auroc", "auroc_low", "auroc_high", "difference", "difference_low", "difference_high", "p_value", "holm_p_value"),
    *("verdict", "calibration_slope", "calibration_slope_low", "calibration_slope_high"),
    *("brier", "accuracy", "sensitivity", "specificity"),
)
_OF_TRUTH = ("oracle_share", "share_low", "share_high")


def tasks_of(league: pl.DataFrame, oracle: pl.DataFrame, smallest_cell: int) -> Figures:
    """`tasks` of the benchmark: from League and Oracle, by task@days. A count below `smallest_cell` is null."""
    questions = league.select("task", "horizon_days").unique(maintain_order=True).rows()
    found = {}
    for task, days in questions:
        asked = (pl.col("task") == task) & (pl.col("horizon_days") == days)
        truth = {row["model"]: row for row in oracle.filter(asked).iter_rows(named=True)}
        rows = {row["model"]: row for row in league.filter(asked).iter_rows(named=True)}
        found[f"{task}@{days}"] = _task(rows, truth, smallest_cell)
    return found


def costs_of(heard: Iterable[Cost], samples: list[tuple[float, float]]) -> Figures:
    """Seconds to fit a model for all its questions, forecasts a second, and the memory above that before any fitting.

    Models are fitted side by side, so the memory of one holds what the others had at the time.
    """
    of_model: dict[str, list[Cost]] = {}
    for cost in heard:
        of_model.setdefault(cost.model, []).append(cost)
    before = samples[0][1] if samples else 0.0
    return {model: _cost(costs, samples, before) for model, costs in sorted(of_model.items())}


def _cost(costs: list[Cost], samples: list[tuple[float, float]], before: float) -> Figures:
    fits, forecasts = ([cost for cost in costs if cost.step == step] for step in (FIT, FORECAST))
    asked, seconds = sum(cost.rows for cost in forecasts), sum(cost.ended - cost.began for cost in forecasts)
    peaks = [peak_mb(samples, cost.began, cost.ended) for cost in fits]
    known = [peak for peak in peaks if peak is not None]
    return {
        "fits": len(fits),
        "fit_seconds": round(sum(cost.ended - cost.began for cost in fits), 2),
        "forecasts_per_second": round(asked / seconds) if seconds > 0 else None,
        "peak_mb": round(max(known) - before, 1) if known else None,
    }


def _task(rows: dict[str, Figures], truth: dict[str, Figures], smallest_cell: int) -> Figures:
    first = next(iter(rows.values()))
    best, of = first["best_simple"], STACK if STACK in rows else TRANSFORMER
    told = next(iter(truth.values()), None)
    of_best = truth.get(best or "", {}).get("auroc")
    return {
        "best_simple": None if best is None else {"name": best, "auroc": _rounded(rows[best]["auroc"])},
        "transformer": _gain(rows.get(TRANSFORMER)),
        "stack": _gain(rows.get(STACK)),
        "oracle_auroc": _rounded(told["oracle_auroc"]) if told else None,
        "oracle_low": _rounded(told["oracle_low"]) if told else None,
        "oracle_high": _rounded(told["oracle_high"]) if told else None,
        "oracle_share": _rounded(truth[of]["oracle_share"]) if of in truth else None,
        "oracle_share_low": _rounded(truth[of]["share_low"]) if of in truth else None,
        "oracle_share_high": _rounded(truth[of]["share_high"]) if of in truth else None,
        "left_to_gain": _rounded(told["oracle_auroc"] - of_best) if told and of_best is not None else None,
        **{
            name: _rounded(rows[of][name]) if of in rows else None
            for name in ("calibration_slope", "calibration_slope_low", "calibration_slope_high")
        },
        "rows": _count(first["rows"], smallest_cell),
        "subjects": _count(first["subjects"], smallest_cell),
        "events": _count(first["events"], smallest_cell),
        "truth_rows": _count(told["rows"], smallest_cell) if told else None,
        "truth_events": _count(told["events"], smallest_cell) if told else None,
        "models": {
            model: {name: _rounded(row[name]) for name in _OF_MODEL}
            | {name: _rounded(truth.get(model, {}).get(name)) for name in _OF_TRUTH}
            for model, row in rows.items()
        },
    }


def _gain(row: Figures | None) -> Figures | None:
    if row is None:
        return None
    names = {"auroc": "auroc", "difference": "difference", "difference_low": "diff_low", "difference_high": "diff_high"}
    return {short: _rounded(row[name]) for name, short in names.items()}


def _count(count: int, smallest_cell: int) -> int | None:
    return count if count >= smallest_cell else None


def _rounded(value: Any) -> Any:
    """Four digits after the point: more would be noise. NaN, which JSON does not know, is null."""
    if not isinstance(value, float):
        return value
    return None if isnan(value) else round(value, 4)
