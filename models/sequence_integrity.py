"""Does the transformer's input keep the one rule about time? The check of real data; nothing is changed or raised."""

import numpy as np
import polars as pl
import torch

from features.integrity import past_with_canaries
from models.batches import batch_of, event_places
from models.questions import KEYS
from models.sequences import Sequences, build_sequences
from models.vocabulary import SequenceVocabulary


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


def _is_alike(some: Sequences, others: Sequences, row: int) -> bool:
    place = np.array([row])
    here, there = batch_of(some, place), batch_of(others, place)
    is_same_input = all(torch.equal(numbers, getattr(there, name)) for name, numbers in vars(here).items())
    return is_same_input and some.events[event_places(some, place)].equals(others.events[event_places(others, place)])


def _codes(vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Codes, with the answer where a token has one, that the vocabulary turns into tokens or states.

    Sex is a fact without a time, so nobody can learn it later. A rare code stands for those that share a token.
    """
    tokens = [word for word in vocabulary.tokens if not word.startswith(("STATE//", "SEX//", "("))]
    chronic = [code for group in vocabulary.chronic_groups for code in (*group.codes, *group.prefixes)]
    answered = [word.replace("(other)", "canary").partition("=") for word in tokens]
    pairs = [(code, answer or None) for code, _, answer in answered] + [(code, None) for code in chronic]
    return pl.DataFrame(sorted(set(pairs), key=str), schema={"code": pl.String, "text_value": pl.String}, orient="row")
