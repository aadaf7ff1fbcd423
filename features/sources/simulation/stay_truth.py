"""The truth of hospital stays: death and a long stay, foreseen a day after admission; an unplanned return, at the end.

What is hidden at that hour is lived on many times: in hospital hour by hour, after it month by month, as in truth.py.
Nothing later enters. Never an input to anything but evaluation.
"""

import numpy as np
import polars as pl

from features.sources.simulation.engine import stays_and_returns, step
from features.sources.simulation.lives import BLOCK, MONTH_YEARS, live
from features.sources.simulation.record import DAY_MINUTES, HAPPENINGS, MONTH_MINUTES, Recorder, times_of_stays
from features.sources.simulation.stays import BOOKED_DAYS, LONGEST_HOURS, RETURN_DAYS, futures_of_stays
from features.sources.simulation.truth import AS_USUAL, FIRST_MONTH, LAST_MONTHS, Moments, risk_rows
from features.sources.simulation.world import Bools, Ints, World

ASKED_HOURS = 24  # after admission
LONG_DAYS = 7
# From the prediction on. Death in hospital is asked until the end of the stay: no stay lasts longer than this.
IN_STAY = {"inpatient_mortality": LONGEST_HOURS // 24, "long_stay": LONG_DAYS - ASKED_HOURS // 24}
HORIZON_DAYS = IN_STAY | {"readmission": RETURN_DAYS}


def risks_of_stays(world: World, seed: int, block: int, wanted: int = BLOCK, copies: int = 100) -> pl.DataFrame:
    """Risks in all stays of the first `wanted` people of a block; the same for each of them whoever is wanted.

    Columns as of truth.risks_of_block. Of who is still in hospital 24 hours after admission: inpatient_mortality (dies
    before the end of the stay) and long_stay (is still there seven days after admission). At the discharge of who is
    alive: readmission (an unplanned stay begins within 30 days; nobody returns who died first). Left out are stays in
    the first two years of the records and in the last.
    """
    recorder, parts, about = Recorder(world, seed, block), [], {"block": block, "treatment": AS_USUAL}
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
        if not FIRST_MONTH <= month < world.months - LAST_MONTHS:
            continue
        for turn, (at, stays, begin, end) in enumerate(recorder.stays):
            there = np.flatnonzero((stays.hours >= ASKED_HOURS) & (who[at] < wanted))
            chances, luck = np.zeros((2, len(there), copies + 1)), np.zeros(len(there))
            for row, one in enumerate(there.tolist()):  # each stay has luck of its own
                rng = np.random.default_rng([seed, block, 7, int(who[at[one]]), int(begin[one])])
                still_there, chances[0, row] = futures_of_stays(stays, one, ASKED_HOURS, copies + 1, rng)
                chances[1, row], luck[row] = still_there[:, LONG_DAYS * 24 - ASKED_HOURS], rng.random()
            day_after = Moments(people.take(at[there]), who[at[there]], begin[there] + ASKED_HOURS * 60)
            for (task, days), of in zip(IN_STAY.items(), chances, strict=True):
                parts.append(risk_rows(day_after, of, about | {"task": task, "horizon_days": days}, luck))

            home = np.flatnonzero(~stays.died)
            if (who[at[home]] < wanted).any():
                discharge = Moments(people.take(at[home]), who[at[home]], end[home])
                rng = np.random.default_rng([seed, block, 8, month, turn])
                month_start = month * MONTH_MINUTES + recorder.phase[discharge.person]
                comes = _comes_later(world, discharge, stays.kind[home], month_start, copies + 1, rng)
                own = stays.chance_of_return[home, None]
                chances, luck = own + (1 - own) * comes, rng.random(len(home))
                parts.append(
                    risk_rows(discharge, chances, about | {"task": "readmission", "horizon_days": RETURN_DAYS}, luck)
                )
    return pl.concat(parts).filter(pl.col("person") < wanted)


def _comes_later(
    world: World, discharge: Moments, kind: Ints, month_start: Ints, copies: int, rng: np.random.Generator
) -> Bools:
    """(people, copies): whether an unplanned stay begins within 30 days, if the stay that ends brings no such return.

    It may follow a booked return, or come as any stay does, in one of the next months, at the time the record gives it.
    """
    crowd = discharge.people.take(np.repeat(np.arange(len(discharge.person)), copies))
    crowd.alive[:] = crowd.here[:] = True  # whatever the return brought that came in the very life
    kind, start, left = (np.repeat(column, copies) for column in (kind, month_start, discharge.minute))
    until, free, comes = left + RETURN_DAYS * DAY_MINUTES, left.copy(), np.zeros(len(crowd), bool)
    is_booked, seeds = rng.random(len(crowd)) < world.books_return[kind], rng.integers(1 << 62, size=len(crowd))
    chain = stays_and_returns(crowd, world, np.flatnonzero(is_booked), kind[is_booked], is_booked[is_booked], seeds)
    near = left + (DAY_MINUTES * rng.uniform(*BOOKED_DAYS, len(crowd))).astype(np.int64)
    last_month = (until + DAY_MINUTES - start).max() // MONTH_MINUTES
    for month in range(last_month + 1):
        if month > 0:
            chain = step(crowd, world, MONTH_YEARS, rng).stays
            crowd.here[:] = True
            near = start + (MONTH_MINUTES * (month + rng.uniform(*HAPPENINGS, len(crowd)))).astype(np.int64)
        for at, stays, begin, _ in times_of_stays(chain, near, free, rng):
            comes[at] |= ~stays.is_planned & (begin <= until[at])
            crowd.alive[at[stays.died]] = False
    return comes.reshape(-1, copies)
