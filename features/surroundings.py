"""What a source as a whole means for each bucket of patients, and what of that is otherwise than before."""

from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from features.errors import SequelaError
from features.ledger import CONTESTED, Ledger
from features.observation import last_covered_day
from features.privacy.date_shift import MICROSECONDS, draw_cap_days
from features.privacy.keys import Key
from features.privacy.pseudonyms import draw_split
from features.recognition import is_in_order
from features.records.landing import number_of
from features.records.standing import Standing, deletions, medications, patients, places, sites, visit_days
from features.settings import StudySettings
from features.timelines import Surroundings, last_believed_move, oldest_birth
from features.touched import Change


def surroundings_of(standing: Standing, key: Key, settings: StudySettings) -> Surroundings:
    """What a bucket must know of the rest, but for the records that moved between patients.

    Raises SequelaError when two patients share a pseudonym.
    """
    data_end = settings.observation.data_end or last_covered_day(visit_days(standing))
    return Surroundings(
        patients=_patients(standing, key, settings),
        sites=sites(standing),
        medications=medications(standing),
        places=places(standing),
        deletions=deletions(standing),
        contested=pl.DataFrame(schema=CONTESTED),
        exports=standing.exports,
        known_to=_known_to(standing, data_end),
        data_end=data_end,
        longest_visit_days=settings.records.longest_visit_days,
        longest_stay_days=settings.records.longest_stay_days,
    )


def _known_to(standing: Standing, data_end: date) -> int:
    """The last true moment (microseconds) that the source knows of: as its exports say, else the end of `data_end`."""
    ends = standing.exports["covers_until"].drop_nulls()
    midnight = datetime.combine(data_end + timedelta(days=1), time(), UTC)
    return max(ends) if ends.len() else int(midnight.timestamp()) * MICROSECONDS


def change_since(ledger: Ledger, standing: Standing, around: Surroundings, generation: int, choices: str) -> Change:
    """What the source says otherwise than at the last reading."""
    before = ledger.standing
    deleted = deletions(before)
    births, moves = (
        [of(end) for end in (ledger.data_end, around.data_end)] for of in (oldest_birth, last_believed_move)
    )
    return Change(
        first_new=number_of(generation, 0, 0),
        known_to_before=_known_to(before, ledger.data_end),
        deletions=_differing(deleted, around.deletions)["record_id"].unique(),
        all_deletions=pl.concat([deleted, around.deletions])["record_id"].unique(),
        contested=_differing(ledger.contested, around.contested)["record_id"].unique(),
        sites=_differing(sites(before), around.sites)["alias"].unique(),
        medications=_differing(medications(before), around.medications)["placeholder"].unique(),
        patients=_differing(patients(before).select("subject_id"), around.patients.select("subject_id"))["subject_id"],
        is_reordered=not is_in_order(ledger, standing),
        births_before=max(births) if births[0] != births[1] else None,
        moves_from=min(moves),
        is_restudied=ledger.state.choices != choices,
    )


def _differing(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """The rows that only one of two tables has."""
    now = now.select(before.columns)
    return pl.concat(
        [
            before.join(now, on=before.columns, how="anti", nulls_equal=True),
            now.join(before, on=before.columns, how="anti", nulls_equal=True),
        ]
    )


def _patients(standing: Standing, key: Key, settings: StudySettings) -> pl.DataFrame:
    """subject_id, weeks_us, seconds_us, cap_days, split: one row a patient."""
    found = patients(standing)
    if found["subject_id"].is_duplicated().any():
        raise SequelaError(
            "Two patients got the same pseudonym with this key, so their records would mix. Choose another key file "
            "(SEQUELA_KEY_FILE) and another --home. The last good state stands."
        )
    subjects = found["subject_id"].to_list()
    splits = settings.splits
    return found.select(
        "subject_id",
        "weeks_us",
        "seconds_us",
        cap_days=pl.Series([draw_cap_days(key.date_shift, one) for one in subjects], dtype=pl.Int64),
        split=pl.Series(
            [draw_split(key.splits, one, splits.train, splits.tuning) for one in subjects], dtype=pl.String
        ),
    )
