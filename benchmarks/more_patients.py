"""What would more patients teach, and how far is the truth?

python -m benchmarks.more_patients --home HOME --more HOME [--sizes 2000,10000,all] [--tasks a,b] --figures FILE

HOME is a simulated study with features (python -m benchmarks.models makes one); its held-out patients judge, on the
rows that the league of docs/models.md judges. LightGBM learns from so many train patients of MORE, a larger population
of the same kind and another seed, whose tuning patients stop it. Told for each question and size are AUROC, its gain
over the size before with its interval (paired bootstrap of patients), and on the rows whose true risk is known the
AUROC of the truth and of the model. FILE is written after each question and
continued if it is there.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.league_figures import Figures
from benchmarks.site import Site, read_site
from features.feature_shards import feature_parts
from features.home import Home
from features.ingest import shards_of
from features.settings import StudySettings
from models.baselines import fit_lightgbm, lightgbm_log_odds
from models.discrimination import auroc, auroc_difference, draw_resamples
from models.oracle import FEWEST_EVENTS
from models.questions import KEYS, Question, feature_matrix, question_rows

RESAMPLES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn from more and more patients, judge, write down, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="whose held-out patients judge")
    parser.add_argument("--more", type=Path, required=True, help="from whose train patients is learnt")
    parser.add_argument("--sizes", default="2000,10000,all", help="train patients, apart by commas, the fewest first")
    parser.add_argument("--tasks", help="names, apart by commas (default: all)")
    parser.add_argument(
        "--figures", type=Path, required=True, help="JSON file of the figures, continued if it is there"
    )
    options = parser.parse_args(arguments)
    settings = StudySettings()
    judging, more = read_site(Home(options.home), settings), read_site(Home(options.more), settings)
    held_out = judging.labels.filter(pl.col("split") == "held_out")
    parts = feature_parts(shards_of(Home(options.home)), held_out.select(KEYS).unique(), more.definitions)
    features = pl.concat(list(parts))
    sizes = options.sizes.split(",")
    patients = more.labels.filter(pl.col("split") == "train")["subject_id"].n_unique()
    if too_many := [size for size in sizes if size != "all" and int(size) > patients]:
        raise SystemExit(f"{options.more} has {patients:,} labelled train patients, so not {', '.join(too_many)}.")
    about = {"source": judging.words, "patients": judging.patients, "learnt_from": more.patients, "all": patients}
    found: Figures = {"about": about, "questions": {}}
    if options.figures.exists():
        found = json.loads(options.figures.read_text())
        if found["about"] != about or any(one and list(one["sizes"]) != sizes for one in found["questions"].values()):
            raise SystemExit(f"{options.figures} holds figures of other homes or sizes. Name another file.")
    asked = held_out.select("task", "horizon_days").unique().sort("task", "horizon_days").iter_rows()
    for question in (Question(*one) for one in asked if not options.tasks or one[0] in options.tasks.split(",")):
        if (name := f"{question.task}@{question.horizon_days}") not in found["questions"]:
            found["questions"][name] = _learnt(question, held_out, features, more, sizes, judging.true_risks)
            options.figures.parent.mkdir(parents=True, exist_ok=True)
            options.figures.write_text(json.dumps(found, indent=1) + "\n")
            print(name, json.dumps(found["questions"][name]), flush=True)
    return 0


def drawn(subjects: pl.Series, size: str, seed: int) -> list[int]:
    """So many of the patients (or all); a smaller size draws some of a larger one's."""
    order = np.random.default_rng(seed).permutation(subjects.unique().sort().to_numpy())
    return order[: None if size == "all" else int(size)].tolist()


def _learnt(
    question: Question,
    held_out: pl.DataFrame,
    features: pl.DataFrame,
    more: Site,
    sizes: list[str],
    true_risks: pl.DataFrame | None,
) -> Figures | None:
    """The figures of one question; None where there are too few outcomes to judge, or to learn from."""
    judged, rows = question_rows(held_out, question), question_rows(more.labels, question)
    events = judged["is_event"].to_numpy()
    train, tuning = (rows.filter(pl.col("split") == split) for split in ("train", "tuning"))
    if min(events.sum(), (~events).sum(), train["is_event"].sum(), tuning["is_event"].sum()) < FEWEST_EVENTS:
        return None
    columns = more.definitions["feature"].to_list()
    x_judged, x_tuning = feature_matrix(features, judged, columns), feature_matrix(more.features, tuning, columns)
    is_known, truth = _truth(judged, question, true_risks)
    resamples = draw_resamples(judged["subject_id"].to_numpy(), RESAMPLES, [question.horizon_days])
    told: Figures = {"rows": judged.height, "outcomes": int(events.sum()), "sizes": {}}
    has_truth = min(events[is_known].sum(), (~events[is_known]).sum()) >= FEWEST_EVENTS
    if has_truth:
        told["truth"] = round(auroc(truth[is_known], events[is_known]), 4)
        told["outcomes_where_known"] = int(events[is_known].sum())
    before: NDArray[np.float64] | None = None
    patients = more.labels.filter(pl.col("split") == "train")["subject_id"]
    for size in sizes:
        own = train.filter(pl.col("subject_id").is_in(drawn(patients, size, question.horizon_days)))
        text = fit_lightgbm(
            feature_matrix(more.features, own, columns),
            own["is_event"].to_numpy(),
            x_tuning,
            tuning["is_event"].to_numpy(),
            StudySettings().seed,
        )
        scores = lightgbm_log_odds(text, x_judged)
        gain = None if before is None else auroc_difference(scores, before, events, resamples)
        before = scores
        told["sizes"][size] = {
            "outcomes": int(own["is_event"].sum()),
            "auroc": round(auroc(scores, events), 4),
            "gain": None if gain is None else [round(one, 4) for one in gain],
            **({"auroc_where_known": round(auroc(scores[is_known], events[is_known]), 4)} if has_truth else {}),
        }
    return told


def _truth(
    judged: pl.DataFrame, question: Question, true_risks: pl.DataFrame | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of the rows have a known true risk, and the risk of each (NaN where it is not known)."""
    if true_risks is None:
        return np.zeros(judged.height, dtype=bool), np.full(judged.height, np.nan)
    usual = true_risks.filter(
        pl.col("treatment") == "as usual",
        pl.col("task") == question.task,
        pl.col("horizon_days") == question.horizon_days,
    )
    risks = judged.join(usual.select(*KEYS, "risk"), on=KEYS, how="left", maintain_order="left")["risk"]
    return risks.is_not_null().to_numpy(), risks.cast(pl.Float64).fill_null(np.nan).to_numpy()


if __name__ == "__main__":
    raise SystemExit(main())
