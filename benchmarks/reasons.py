"""How exact are a sequence model's reasons, and what do they cost?

python -m benchmarks.reasons --home HOME [--rows 300] [--points N] [--json]

HOME is a study that has run. Integrated gradients (models/explanation.py) of its saved networks, for the last moments
of held-out patients and every question: with the few points on the path that scoring takes, and with many. Told are, in
log-odds, how much the sum of a row's contributions and the largest single difference move (95th percentile over rows
and questions), beside the size of the sums, and the time that reasons take as a ratio to the time of the forecasts.
RETAIN takes no path, so it is left out. The last line with --json is one JSON object with the same figures.
"""

import argparse
import json
import time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.site import home_that_ran
from features.home import Home
from features.ingest import events_of
from models.batches import row_events
from models.explanation import PATH_POINTS, event_contributions
from models.questions import KEYS
from models.retain import Retain
from models.saved_model import load_model
from models.sequence_models import place_of
from models.sequences import build_sequences
from models.training import forecast_log_odds

MANY_POINTS = 24


def main() -> int:
    """Explain with few and with many points, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=home_that_ran, required=True, help="home of a study that has run")
    parser.add_argument("--rows", type=int, default=300, help="patients to explain (default: 300)")
    parser.add_argument("--points", type=int, default=PATH_POINTS, help=f"on the path (default: {PATH_POINTS})")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    home = Home(options.home)
    model = load_model(home.models)
    if model.sequence_models is None or model.vocabulary is None:
        raise SystemExit("No sequence model was trained there.")
    moments = pl.read_parquet(home.tables / "labels.parquet").filter(pl.col("split") == "held_out").select(KEYS)
    keys = moments.group_by("subject_id").max().sort(KEYS).head(options.rows)
    sequences = build_sequences(events_of(home), keys, model.vocabulary)
    rows = np.arange(keys.height)
    row_of_event = np.repeat(rows, [len(row_events(sequences, row)) for row in rows.tolist()])
    places = [place_of(model.sequence_models.shape, question) for question in sorted(model.questions)]
    told = {}
    for name, network in model.sequence_models.networks.items():
        if isinstance(network, Retain):
            continue
        began = time.perf_counter()
        forecast_log_odds(network, sequences, rows, places)
        forecast = time.perf_counter()
        few = event_contributions(network, sequences, rows, places, options.points)
        explained = time.perf_counter()
        many = event_contributions(network, sequences, rows, places, MANY_POINTS)
        largest = np.zeros((len(rows), len(places)))
        np.maximum.at(largest, row_of_event, np.abs(few - many))
        told[name] = {
            "points": options.points,
            "questions": len(places),
            "median_sum": float(np.median(np.abs(_by_row(many, row_of_event, len(rows))))),
            "sum_moves_p95": float(np.quantile(np.abs(_by_row(few - many, row_of_event, len(rows))), 0.95)),
            "one_event_moves_p95": float(np.quantile(largest, 0.95)),
            "reasons_to_forecast_time": (explained - forecast) / (forecast - began),
            "ms_for_one_risk": 1000 * (explained - forecast) / len(rows) / len(places),
        }
        print(name, {key: round(value, 5) for key, value in told[name].items()})
    if options.json:
        print(json.dumps(told))
    return 0


def _by_row(contributions: NDArray[np.float64], row_of_event: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    sums = np.zeros((rows, contributions.shape[1]))
    np.add.at(sums, row_of_event, contributions)
    return sums


if __name__ == "__main__":
    raise SystemExit(main())
