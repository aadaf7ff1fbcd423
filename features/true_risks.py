"""The true risks of a simulated population, under the pseudonyms and moved dates of the study that reads its records.

For evaluation alone: nothing that makes features or fits models may read them (tests/orchestration holds it).
"""

from datetime import datetime

import polars as pl
from threadpoolctl import threadpool_limits

from features.privacy.date_shift import MINUTE
from features.privacy.keys import Key
from features.privacy.pseudonyms import pseudonym
from features.processes import workers
from features.result_tables import TrueRisks
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.stay_truth import risks_of_stays
from features.sources.simulation.truth import AS_USUAL, risks_of_block
from features.sources.simulation.world import load_world
from features.sources.simulation.writing import patient_id
from features.tables import checked

_TREATED = 64  # people of each block of 512 whose treatment effects are worked out: each takes two more sets of futures
_LONGEST_DAYS = 1825


def true_risks(
    patients: int,
    seed: int,
    key: Key,
    shifts: pl.DataFrame,
    each: int = 2,
    copies: int = 100,
    treatments: tuple[str, ...] = (),
    processes: int = 1,
) -> pl.DataFrame:
    """Simulate the futures of `each` visits, and of all hospital stays, of every person, `copies` times; TrueRisks.

    `patients` and `seed` are those of the simulation; `shifts`: subject_id, shift_us (true + shift = shifted).
    """
    pieces: list[tuple[int, int, int, int, int, tuple[str, ...]]] = [
        (seed, block, min(BLOCK, patients - block * BLOCK), each, copies, ()) for block in range(-(-patients // BLOCK))
    ]
    if treatments:
        pieces += [(seed, block, min(_TREATED, wanted), 1, copies, treatments) for _, block, wanted, *_ in list(pieces)]
    with workers(processes) as spread:
        parts = list(spread(_of_block, pieces, "simulating futures", "part"))
    risks = pl.concat(parts)
    begin = datetime.fromisoformat(load_world().raw["care"]["population"]["records_begin"])
    people = risks.select("block", "person").unique().sort("block", "person")
    ids = [
        pseudonym(key.pseudonyms, "Patient", patient_id(seed, block, person)) for block, person in people.iter_rows()
    ]
    moment = (
        pl.lit(begin) + pl.duration(minutes=pl.col("prediction_minute")) + pl.duration(microseconds=pl.col("shift_us"))
    )
    table = (
        risks.join(people.with_columns(subject_id=pl.Series(ids, dtype=pl.Int64)), on=["block", "person"])
        .join(shifts, on="subject_id")
        .select(
            "subject_id",
            "task",
            "treatment",
            "risk",
            "standard_error",
            "drawn",
            "horizon_days",
            prediction_time=moment.cast(pl.Datetime("us")).dt.truncate(f"{MINUTE // 60_000_000}m"),
        )
        .unique(
            ["subject_id", "prediction_time", "task", "horizon_days", "treatment"], keep="first", maintain_order=True
        )
        .sort("task", "horizon_days", "treatment", "subject_id", "prediction_time")
    )
    return checked(table, TrueRisks)


def _of_block(seed: int, block: int, wanted: int, each: int, copies: int, treatments: tuple[str, ...]) -> pl.DataFrame:
    with threadpool_limits(1):
        risks = risks_of_block(load_world(), seed, block, wanted, each, copies, treatments, _LONGEST_DAYS)
        if treatments:
            return risks.filter(pl.col("treatment") != AS_USUAL)
        return pl.concat([risks, risks_of_stays(load_world(), seed, block, wanted, copies)])
