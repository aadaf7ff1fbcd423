"""Are patients flagged as unlike those learnt from really judged worse, and how many of another site are flagged?

python -m benchmarks.familiarity --home HOME [--other HOME] [--model stack] [--json]

HOME is a study that has run. For each question models/familiarity.py is fitted on its train rows; told are the share of
held-out rows flagged, and, over all questions together, AUROC within questions, observed / expected and the mean loss
of flagged and other rows of one model, with intervals (bootstrap of patients). OTHER is another study, read up to its
labels: told is the share of its patients (last moment) that HOME's models would give no risk, by task. The last line
with --json is one JSON object with the same figures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.site import home_that_ran
from features.feature_tables import build_features
from features.home import Home
from features.ingest import events_of
from models.baselines import row_log_loss
from models.calibration import logit
from models.discrimination import draw_resamples, interval
from models.familiarity import Familiarity, fit_familiarity, most_unknown, unknown_shares, unlike_because
from models.questions import KEYS, Question, feature_matrix, question_rows
from models.saved_model import load_model
from models.vocabulary import SequenceVocabulary

RESAMPLES = 200


def main() -> int:
    """Fit, flag, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=home_that_ran, required=True, help="home of a study that has run")
    parser.add_argument("--other", type=Path, help="home of another study, read up to its labels")
    parser.add_argument("--model", default="stack", help="whose forecasts are compared (default: stack)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    home = Home(options.home)
    labels, features, definitions, predictions = (
        pl.read_parquet(home.tables / f"{name}.parquet")
        for name in ("labels", "features", "feature_definitions", "predictions")
    )
    vocabulary = load_model(home.models).vocabulary
    if vocabulary is None:
        raise SystemExit("No model was trained there.")
    forecasts = predictions.filter(pl.col("model") == options.model, pl.col("split") == "held_out")
    keys = labels.filter(pl.col("split") != "train").select(*KEYS, "split").unique().sort(KEYS)
    shares = unknown_shares(events_of(home), keys, vocabulary)
    limit = most_unknown(shares.filter((keys["split"] == "tuning").to_numpy()).unique("subject_id", keep="last"))
    columns = definitions["feature"].to_list()
    fitted, flagged = {}, []
    for task, days in sorted(forecasts.select("task", "horizon_days").unique().iter_rows()):
        question = Question(task, days)
        rows = question_rows(labels, question)
        parts = {split: rows.filter(pl.col("split") == split) for split in ("train", "tuning", "held_out")}
        matrices = {split: feature_matrix(features, part, columns) for split, part in parts.items()}
        fitted[question] = fit_familiarity(matrices["train"], matrices["tuning"], columns, definitions)
        held_out = parts["held_out"].join(shares, on=KEYS, how="left", maintain_order="left")
        is_flagged = (
            _is_unlike(fitted[question], matrices["held_out"], columns) | (held_out["unknown"] > limit).to_numpy()
        )
        flagged.append(
            held_out.select(KEYS)
            .with_columns(is_flagged=pl.Series(is_flagged))
            .join(forecasts.filter(pl.col("task") == task, pl.col("horizon_days") == days), on=KEYS)
        )
    together = pl.concat(flagged)
    told = {name: _judged(together.filter(pl.col("is_flagged") == is_one)) for name, is_one in FLAGS.items()}
    for name, measures in told.items():
        print(f"{name:8}", {key: _rounded(value) for key, value in measures.items()})
    elsewhere = {}
    if options.other:
        elsewhere = _shares_elsewhere(Home(options.other), fitted, definitions, vocabulary, limit)
        for name, share in elsewhere.items():
            print(f"{name:32} {share:.3f} of the other site's patients flagged")
    if options.json:
        print(json.dumps({"most_unknown": limit, **told, "elsewhere": elsewhere}))
    return 0


FLAGS = {"flagged": True, "others": False}


def _is_unlike(familiarity: Familiarity, matrix: NDArray[np.float32], columns: list[str]) -> NDArray[np.bool_]:
    return np.array([one is not None for one in unlike_because(familiarity, matrix, columns, {})], dtype=bool)


def _judged(rows: pl.DataFrame) -> dict[str, float | list[float]]:
    """Measures of rows of many questions: pairs for the AUROC are of one question."""
    if rows.is_empty():
        return {"rows": 0.0}
    events, risk = rows["is_event"].to_numpy(), rows["risk"].to_numpy()
    drawn = draw_resamples(rows["subject_id"].to_numpy(), RESAMPLES, [1])
    with np.errstate(all="ignore"):
        ratio = interval(drawn.sums(events) / drawn.sums(risk))
        losses = row_log_loss(logit(risk), events)
        level = rows.select(pl.col("is_event").mean().over("task", "horizon_days")).to_series().to_numpy()
        gain = row_log_loss(logit(level.clip(1e-4, 1 - 1e-4)), events) - losses
        gains = interval(drawn.sums(gain) / drawn.sums(np.ones(len(gain))))
    won = pairs = 0.0
    for _, of_one in rows.group_by("task", "horizon_days"):
        with_it, without = (of_one.filter(pl.col("is_event") == had)["score"].to_numpy() for had in (True, False))
        order = np.sort(without)
        won += float((np.searchsorted(order, with_it, "left") + np.searchsorted(order, with_it, "right")).sum() / 2)
        pairs += len(with_it) * len(without)
    return {
        "rows": float(len(rows)),
        "patients": float(rows["subject_id"].n_unique()),
        "events": float(events.sum()),
        "auroc_within_questions": won / pairs if pairs else float("nan"),
        "observed_expected": float(events.sum() / risk.sum()),
        "observed_expected_interval": list(ratio),
        "gain_over_own_base_rate": float(gain.mean()),
        "gain_interval": list(gains),
    }


def _shares_elsewhere(
    other: Home,
    fitted: dict[Question, Familiarity],
    definitions: pl.DataFrame,
    vocabulary: SequenceVocabulary,
    limit: float,
) -> dict[str, float]:
    """By question, the share of the other site's patients that are flagged at their last moment."""
    labels = pl.read_parquet(other.tables / "labels.parquet")
    last = labels.sort(KEYS).unique(["task", "horizon_days", "subject_id"], keep="last", maintain_order=True)
    keys = last.select(KEYS).unique().sort(KEYS)
    events = events_of(other)
    features, shares = build_features(events, keys, definitions), unknown_shares(events, keys, vocabulary)
    columns, found = definitions["feature"].to_list(), {}
    for question, familiarity in fitted.items():
        rows = last.filter(pl.col("task") == question.task, pl.col("horizon_days") == question.horizon_days)
        if rows.height:
            has_unknown = rows.select(KEYS).join(shares, on=KEYS, how="left", maintain_order="left")["unknown"] > limit
            is_unlike = _is_unlike(familiarity, feature_matrix(features, rows, columns), columns)
            name = f"{question.task}@{question.horizon_days}"
            found[name] = float((is_unlike | has_unknown.to_numpy()).mean())
            found[f"{name} by codes"] = float(has_unknown.mean())
    return found


def _rounded(value: float | list[float]) -> float | list[float]:
    return [round(one, 3) for one in value] if isinstance(value, list) else round(value, 3)


if __name__ == "__main__":
    raise SystemExit(main())
