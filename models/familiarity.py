"""Is this patient like those that the model learnt from? Of whom it is not, no risk is told.

Three measures, each with a limit that about one in a hundred tuning rows or patients passes at most:
- range: age, or another demographic number, outside the range of train rows;
- distance: Mahalanobis distance from the train rows in a compact picture of a patient (age and sex, visits and stays,
  the commonest latest values, how many chronic states and values are known), with a shrunk covariance (Ledoit 2004);
- codes: the share of a patient's events in the look-back whose codes too few train patients had to be learnt from.
They tell that a patient is rare among those learnt from, not that the risk is wrong (docs/calibration.md measures it).
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel
from sklearn.covariance import LedoitWolf

from models.vocabulary import SequenceVocabulary, visible_system

Matrix = NDArray[np.floating]
Numbers = NDArray[np.float64]

QUANTILE = 0.99
MOST_VALUES = 10
RANGE_STEP = 5  # bounds are rounded outwards, so that they are nobody's own age
FEWEST_UNKNOWN = 0.2  # a smaller share of unknown codes is never strange
FARTHEST_SCALED = 10.0
STATES, VALUES = "number of chronic conditions", "number of different measurements"


class Familiarity(BaseModel, frozen=True, extra="forbid"):
    """The compact picture of the train rows of one question, and the distance beyond which a row is unlike them.

    The picture holds each of `columns` (median where missing, ln(1 + x) for those in `logged`), then how many of
    `states` are above 0 and how many of `values` are known. `ranges`: lowest and highest of each column that has them.
    """

    columns: list[str]
    medians: list[float]
    logged: list[str]
    states: list[str]
    values: list[str]
    centres: list[float]
    spreads: list[float]
    precision: list[list[float]]
    farthest: float
    ranges: dict[str, tuple[float, float]]


def fit_familiarity(train: Matrix, tuning: Matrix, columns: list[str], definitions: pl.DataFrame) -> Familiarity:
    """Fit on train rows; tuning rows set the limit. Reads FeatureDefinitions of `columns`.

    Shapes: N and M rows, F features: train (N, F), tuning (M, F), NaN where missing.
    """
    kind, statistic = pl.col("kind"), pl.col("statistic")
    demographic, visits, latest, states = (
        definitions.filter(is_wanted)["feature"].to_list()
        for is_wanted in (
            kind == "demographic",
            kind == "utilisation",
            (kind == "value") & (statistic == "last"),
            (kind == "state") & (statistic == "is_present"),
        )
    )
    missing = np.isnan(_columns(train, columns, latest)).mean(axis=0)
    # A value that hardly anybody has says nothing of most patients.
    common = [latest[place] for place in np.argsort(missing, kind="stable")[:MOST_VALUES] if missing[place] < 1]
    used = [*demographic, *visits, *common]
    medians = [
        float(np.median(known)) if len(known := column[~np.isnan(column)]) else 0.0
        for column in _columns(train, columns, used).T
    ]
    blank = Familiarity(
        columns=used,
        medians=medians,
        logged=visits,
        states=states,
        values=latest,
        centres=[0.0] * (len(used) + 2),
        spreads=[1.0] * (len(used) + 2),
        precision=[],
        farthest=0.0,
        ranges=_ranges(train, columns, demographic),
    )
    picture = _picture(blank, train, columns)
    spreads = picture.std(axis=0)
    scaled = {"centres": picture.mean(axis=0).tolist(), "spreads": np.where(spreads > 1e-6, spreads, 1).tolist()}
    fitted = blank.model_copy(update=scaled)
    precision = LedoitWolf(assume_centered=True).fit(_picture(fitted, train, columns)).precision_
    fitted = fitted.model_copy(update={"precision": precision.tolist()})
    farthest = float(np.quantile(_parts(fitted, tuning, columns).sum(axis=1), QUANTILE))
    return fitted.model_copy(update={"farthest": farthest})


def unlike_because(
    familiarity: Familiarity, features: Matrix, columns: list[str], words: Mapping[str, str]
) -> list[str | None]:
    """Why each row is unlike the train rows, in `words` (by feature); None where it is not. Shape: features (N, F)."""
    parts = _parts(familiarity, features, columns)
    names = [*(words.get(name, name) for name in familiarity.columns), STATES, VALUES]
    because: list[str | None] = [None] * len(features)
    for row in np.flatnonzero(parts.sum(axis=1) > familiarity.farthest):
        most = int(np.argmax(parts[row]))
        value = features[row, columns.index(familiarity.columns[most])] if most < len(familiarity.columns) else None
        told = "" if value is None else " (not known)" if np.isnan(value) else f" ({value:.4g})"
        because[row] = f"unlike the patients learnt from, above all: {names[most]}{told}"
    for name, (low, high) in familiarity.ranges.items():
        values = features[:, columns.index(name)]
        for row in np.flatnonzero((values < low) | (values > high)):
            because[row] = (
                f"{words.get(name, name)}: {values[row]:.4g} is outside {low:g} to {high:g}, the range learnt from"
            )
    return because


def known_codes(vocabulary: SequenceVocabulary) -> list[str]:
    """The codes that enough train patients had."""
    return sorted({token.partition("=")[0] for token in vocabulary.tokens})


def unknown_shares(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Share of each row's events within the look-back whose code is not known; 0 without any event.

    Reads Events. Returns the rows of `keys` (subject_id, prediction_time) in their order with a column unknown.
    """
    rows = keys.select("subject_id", "prediction_time")
    known = pl.Series(known_codes(vocabulary), dtype=pl.String).implode()
    shares = (
        events.filter(pl.col("known_time").is_not_null(), visible_system())
        .select("subject_id", "known_time", is_unknown=~pl.col("code").is_in(known))
        .join(rows.lazy(), on="subject_id")
        .filter(
            pl.col("known_time") <= pl.col("prediction_time"),
            pl.col("known_time") > pl.col("prediction_time") - pl.duration(days=vocabulary.lookback_days),
        )
        .group_by("subject_id", "prediction_time")
        .agg(unknown=pl.col("is_unknown").mean())
        .collect()
    )
    joined = rows.join(shares, on=["subject_id", "prediction_time"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("unknown").fill_null(0.0))


def most_unknown(shares: pl.DataFrame) -> float:
    """The share of unknown codes above which a patient is unlike those learnt from. Reads unknown of tuning rows."""
    quantile = shares["unknown"].quantile(QUANTILE, "linear")
    return max(FEWEST_UNKNOWN, quantile or 0.0)


def _ranges(train: Matrix, columns: list[str], demographic: list[str]) -> dict[str, tuple[float, float]]:
    """Between the 0.5th and 99.5th percentile of train rows, rounded outwards; none for what is yes or no."""
    ranges = {}
    for name, column in zip(demographic, _columns(train, columns, demographic).T, strict=True):
        known = column[~np.isnan(column)].astype(np.float64)
        if len(np.unique(known)) > 2:
            low, high = np.quantile(known, [(1 - QUANTILE) / 2, (1 + QUANTILE) / 2])
            ranges[name] = (
                float(np.floor(low / RANGE_STEP) * RANGE_STEP),
                float(np.ceil(high / RANGE_STEP) * RANGE_STEP),
            )
    return ranges


def _picture(familiarity: Familiarity, features: Matrix, columns: list[str]) -> Numbers:
    """The compact picture, standardised. Shapes: (N, F) -> (N, K)."""
    part = _columns(features, columns, familiarity.columns).astype(np.float64)
    part = np.where(np.isnan(part), familiarity.medians, part)
    is_logged = np.isin(familiarity.columns, familiarity.logged)
    part = np.where(is_logged, np.log1p(part.clip(0)), part)
    states = (_columns(features, columns, familiarity.states) > 0).sum(axis=1)
    values = (~np.isnan(_columns(features, columns, familiarity.values))).sum(axis=1)
    whole = np.column_stack([part, states, values])
    scaled = (whole - familiarity.centres) / familiarity.spreads
    return scaled.clip(-FARTHEST_SCALED, FARTHEST_SCALED) if familiarity.precision else scaled


def _parts(familiarity: Familiarity, features: Matrix, columns: list[str]) -> Numbers:
    """What each part of the picture adds to the squared distance. Shapes: (N, F) -> (N, K)."""
    picture = _picture(familiarity, features, columns)
    return np.asarray(picture * (picture @ np.asarray(familiarity.precision)))


def _columns(features: Matrix, columns: list[str], wanted: list[str]) -> Matrix:
    places = {name: place for place, name in enumerate(columns)}
    return features[:, [places[name] for name in wanted]]
