"""Do the sequence models and their input keep the one rule about time? Checks of real data, which change nothing."""

import numpy as np
import polars as pl
import torch

from features.integrity import past_with_canaries
from models.batches import ROWS_PER_STRETCH, batch_of, row_events, stretches_of
from models.questions import KEYS
from models.sequence_models import SequenceModels
from models.sequences import Sequences, build_sequences
from models.training import forecast_log_odds
from models.vocabulary import SequenceVocabulary

_MOST_DIFFERENCE = 1e-3  # of log-odds: sums in another order differ by about a thousandth of that


def count_sequences_that_see_the_future(
    events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary, *, rows: int, seed: int
) -> int:
    """Sequences, of a sample of `rows`, that are not bit for bit what the past alone gives.

    Each is built from the whole timeline, and again for a stand-in patient who has the past and canaries of every code
    in the vocabulary (features.integrity). Reads Events; `keys`: subject_id, prediction_time.
    """
    keys = keys.select(KEYS).unique().sort(KEYS)
    if keys.is_empty():
        return 0
    drawn = keys.sample(min(rows, keys.height), seed=seed).sort(KEYS)
    stand_ins, timeline = past_with_canaries(events, drawn, _codes(vocabulary))
    found = build_sequences(events, drawn, vocabulary)
    expected = build_sequences(timeline.lazy(), stand_ins, vocabulary)
    return sum(not _is_alike(found, expected, row) for row in range(drawn.height))


def count_forecasts_that_see_later_rows(
    models: SequenceModels, sequences: Sequences, *, patients: int, seed: int
) -> int:
    """Prediction times of a sample of `patients` where a network answers otherwise when asked about later ones too.

    A patient's prediction times are worked out together; that there is a later one tells who lives on. So each is
    asked alone too, and a difference of more than 0.001 in any log-odds counts, as does no number at all.
    """
    subjects = sequences.keys["subject_id"]
    drawn = subjects.unique(maintain_order=True).sample(min(patients, subjects.n_unique()), seed=seed)
    rows = np.flatnonzero(subjects.is_in(drawn.implode()).to_numpy())
    places = [(place, len(task.edges_days) - 1) for place, task in enumerate(models.shape.tasks)]
    changes = np.zeros(len(rows), dtype=bool)
    for network in models.networks.values():
        together, alone = (forecast_log_odds(network, sequences, rows, places, most) for most in (ROWS_PER_STRETCH, 1))
        changes |= ~(np.abs(together - alone) <= _MOST_DIFFERENCE).all(axis=1)
    return int(changes.sum())


def _is_alike(some: Sequences, others: Sequences, row: int) -> bool:
    """Whether both hold the same row: every number of a batch of it alone, and the events that it sees."""
    here, there = (
        batch_of(held, stretches_of(held, np.array([row]), most=1), np.array([0])) for held in (some, others)
    )
    return all(_is_equal(numbers, getattr(there, name)) for name, numbers in vars(here).items()) and some.events[
        row_events(some, row)
    ].equals(others.events[row_events(others, row)])


def _is_equal(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Bit for bit; no value (NaN) is like no value."""
    return some.shape == others.shape and some.numpy().tobytes() == others.numpy().tobytes()


def _codes(vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Codes, with the answer where a token has one, that the vocabulary turns into tokens or states.

    Sex is a fact without a time, so nobody can learn it later. A rare code stands for those that share a token.
    """
    tokens = [word for word in vocabulary.tokens if not word.startswith(("STATE//", "SEX//", "("))]
    chronic = [code for group in vocabulary.chronic_groups for code in (*group.codes, *group.prefixes)]
    answered = [word.replace("(other)", "canary").partition("=") for word in tokens]
    pairs = [(code, answer or None) for code, _, answer in answered] + [(code, None) for code in chronic]
    return pl.DataFrame(sorted(set(pairs), key=str), schema={"code": pl.String, "text_value": pl.String}, orient="row")
