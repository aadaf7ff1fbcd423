"""What is written down of a block of lives: visits and stays with their times, and what was found in them.

A record is not the truth: results carry error and come back hours later, diagnoses stand under the site's own codes,
people who have moved away leave no trace. Times are minutes since the records begin (UTC). Within a person's own month,
deaths come first, then what happens by itself, then the visit (engine.py).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.sources.simulation.engine import Month, People, measured_level
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.results import by_formula
from features.sources.simulation.rounds import rounds
from features.sources.simulation.stays import StayPaths
from features.sources.simulation.hazards import Bools, Floats, Ints
from features.sources.simulation.world import World

MONTH_MINUTES = 43_830  # a twelfth of 365.25 days
DAY_MINUTES = 1440
AMBULATORY, EMERGENCY, INPATIENT = range(3)
HOME, OTHER_FACILITY, HOME_CARE, DIED = range(4)
NEVER = np.iinfo(np.int64).max
_DEATHS = (0.0, 0.05)  # parts of the month
_HAPPENINGS = (0.06, 0.50)
_VISITS = (0.56, 0.96)
_RENEWED_AFTER_MONTHS = 10
_UNKNOWN_MONTH = -100
_SPREAD_OF_HOURS = 0.5
_OWN_ERROR = (None, "exponential", "weight", "creatinine")  # formulas of the one result that clinicians remember


class Rows:
    """A table being filled: columns of one length, appended together."""

    def __init__(self, **types: type) -> None:
        self._types = types
        self._parts: list[tuple[int, dict[str, npt.NDArray | float]]] = []

    def add(self, rows: int, **columns: npt.NDArray | float) -> None:
        """Append `rows` rows; a single value stands for all of them."""
        if rows:
            self._parts.append((rows, columns))

    def done(self) -> dict[str, npt.NDArray]:
        """Whole columns."""
        length = sum(rows for rows, _ in self._parts)
        whole = {name: np.empty(length, kind) for name, kind in self._types.items()}
        start = 0
        for rows, columns in self._parts:
            for name, column in columns.items():
                whole[name][start : start + rows] = column
            start += rows
        return whole


def _rows(**types: type) -> Rows:
    return field(default_factory=lambda: Rows(**types))


@dataclass
class Record:
    """What is written of a block. `person` is the number in the block, `encounter` a row of encounters.

    people: by number. days: lived when the records begin; race: which of care.toml; died: minute or NEVER.
    encounters: reason, a kind of stay or -1. results: result and order (-1 in a stay's own rounds) as in World; second,
    the diastolic beside a systolic pressure. conditions: is_main, what brought them into hospital. done: procedures and
    vaccines.
    """

    people: dict[str, npt.NDArray]
    encounters: Rows = _rows(person=int, kind=int, start=int, end=int, reason=int, disposition=int, is_planned=bool)
    results: Rows = _rows(
        person=int, encounter=int, result=int, value=float, second=float, time=int, issued=int, order=int
    )
    conditions: Rows = _rows(person=int, encounter=int, condition=int, onset=int, recorded=int, is_main=bool)
    prescriptions: Rows = _rows(person=int, encounter=int, drug=int, time=int)
    done: Rows = _rows(person=int, encounter=int, order=int, time=int)


@dataclass(frozen=True)
class _Now:
    """A month as it is written down: the numbers of the people there, and the first minute of each one's own month."""

    month: int
    people: People
    happened: Month
    who: Ints
    start: Ints
    rng: np.random.Generator

    def minutes(self, part: tuple[float, float], at: Ints) -> Ints:
        """A moment in that part of the month for each of the people at `at`."""
        return self.start[at] + (MONTH_MINUTES * self.rng.uniform(*part, len(at))).astype(np.int64)


class Recorder:
    """Writes month after month of one block down. `visit_ends`: the end of each person's latest visit."""

    def __init__(self, world: World, seed: int, block: int) -> None:
        rng = np.random.default_rng([seed, block, 2])
        self._world, self._seed, self._block = world, seed, block
        self._phase = rng.integers(0, MONTH_MINUTES, BLOCK)
        normal = rng.standard_normal((2, BLOCK))
        of_sex = zip((world.raw["care"]["height"][sex] for sex in ("female", "male")), normal, strict=True)
        self._height = np.stack([mean + sd * own for (mean, sd), own in of_sex])  # (2, people) cm, as a woman, as a man
        self.record = Record(_people(world, np.random.default_rng([seed, block, 4])))
        self.visit_ends = np.zeros(BLOCK, np.int64)
        self._encounters = 0
        self._has_history = np.zeros(BLOCK, bool)  # who came with one, written at the first occasion
        self._busy_until = np.zeros(BLOCK, np.int64)
        self._prescribed = np.full((len(world.drugs), BLOCK), _UNKNOWN_MONTH)  # month
        conditions = [world.raw["conditions"][name] for name in world.conditions]
        self._brings_stay = np.array(["stay" in one for one in conditions])
        has_code = np.array(["code" in one for one in conditions])
        self._is_found = has_code & ~self._brings_stay  # the others are written with the stay that they bring
        self._is_history = has_code & ~(self._brings_stay & np.array([one.get("passes", False) for one in conditions]))

    def write(self, month: int, people: People, happened: Month, who: Ints) -> None:
        """One month of the people numbered `who`."""
        rng = np.random.default_rng([self._seed, self._block, 3, month])
        now = _Now(month, people, happened, who, month * MONTH_MINUTES + self._phase[who], rng)
        self._arrivals(now)
        dead = np.flatnonzero(happened.died_of >= 0)
        self.record.people["died"][who[dead]] = now.minutes(_DEATHS, dead)
        for turn in range(len(happened.stays)):
            self._stays(now, turn)
        self._emergencies(now)
        self._visits(now)

    def _arrivals(self, now: _Now) -> None:
        table, people = self.record.people, now.people
        new = np.flatnonzero(np.isnan(table["days"][now.who]))
        number = now.who[new]
        table["site"][number], table["sex"][number] = people.site[new], people.is_male[new]
        age = people.age[new] - (now.month + 1) / 12
        table["days"][number] = age * 365.25 - self._phase[number] / DAY_MINUTES

    def _stays(self, now: _Now, turn: int) -> None:
        stay_of, stays = now.happened.stays[turn]
        rng, world, person = now.rng, self._world, now.who[stay_of]
        is_planned = np.array([world.raw["stays"][name].get("planned", False) for name in world.stays])[stays.kind]
        if turn == 0:
            begin = now.minutes(_HAPPENINGS, stay_of)
        else:  # those who come back are the returners of the stays before, in their order
            before = now.happened.stays[turn - 1][1]
            begin = self._busy_until[person] + (before.return_days[before.returns] * DAY_MINUTES).astype(np.int64)
            is_planned = is_planned | before.return_is_planned[before.returns]
        begin = begin // DAY_MINUTES * DAY_MINUTES + stays.admitted_at * 60 + rng.integers(0, 60, len(person))
        begin = np.maximum(begin, self._busy_until[person] + 120)
        end = begin + stays.hours * 60 + rng.integers(0, 60, len(person))
        self._busy_until[person] = end
        disposition = self._dispositions(now, stay_of, stays)
        row = self._open(person, INPATIENT, begin, end, stays.kind, disposition, is_planned)
        for condition in np.flatnonzero(self._brings_stay):
            kind = world.stays.index(world.raw["conditions"][world.conditions[condition]]["stay"])
            of = np.flatnonzero((stays.kind == kind) & (rng.random(len(person)) < 0.93))
            self._conditions(person[of], row[of], condition, begin[of], end[of], True)
        self.record.people["died"][person[stays.died]] = end[stays.died]
        for one in rounds(world, stays, now.people, stay_of, rng):
            time = begin[one.stay] + one.minute
            self._results(now, one.result, person[one.stay], row[one.stay], time, -1, one.value, one.hours, one.second)
        if turn == 0:
            lives = ~stays.died
            self._care(now, stay_of[lives], row[lives], begin[lives] + 90, end[lives])

    def _dispositions(self, now: _Now, stay_of: Ints, stays: StayPaths) -> Ints:
        frail = now.people.level[self._world.states.index("frailty"), stay_of]
        u = now.rng.random(len(stay_of)) - 0.6 * (frail - 0.12) - 0.03 * (now.people.age[stay_of] - 60) / 10
        u = u - 0.1 * (stays.hours > 120)
        return np.select([stays.died, u < 0.10, u < 0.21], [DIED, OTHER_FACILITY, HOME_CARE], HOME)

    def _emergencies(self, now: _Now) -> None:
        at = np.flatnonzero(now.happened.emergency & (now.happened.died_of < 0))
        begin = np.maximum(now.minutes(_HAPPENINGS, at), self._busy_until[now.who[at]] + 300)
        self._open(now.who[at], EMERGENCY, begin, begin + now.rng.integers(100, 480, len(at)))

    def _visits(self, now: _Now) -> None:
        at = np.flatnonzero(now.happened.visit)
        begin = np.maximum(now.minutes(_VISITS, at), self._busy_until[now.who[at]] + DAY_MINUTES)
        begin = begin // DAY_MINUTES * DAY_MINUTES + now.rng.integers(8 * 12, 17 * 12, len(at)) * 5  # office hours
        end = begin + now.rng.integers(3, 9, len(at)) * 5
        self.visit_ends[now.who[at]] = end
        self._care(now, at, self._open(now.who[at], AMBULATORY, begin, end), begin, end)

    def _open(
        self, person: Ints, kind: int, begin: Ints, end: Ints,
        reason: Ints | int = -1, disposition: Ints | int = HOME, is_planned: Bools | bool = False,
    ) -> Ints:  # fmt: skip
        row = self._encounters + np.arange(len(person))
        self._encounters += len(person)
        self.record.encounters.add(
            len(person), person=person, kind=kind, start=begin, end=end,
            reason=reason, disposition=disposition, is_planned=is_planned,
        )  # fmt: skip
        return row

    def _care(self, now: _Now, at: Ints, row: Ints, begin: Ints, end: Ints) -> None:
        """What is measured, found and prescribed on one occasion of each of the people `at`."""
        person = now.who[at]
        for order in range(len(self._world.orders)):
            of = np.flatnonzero(now.happened.ordered[order, at])
            if len(of):
                self._order(now, order, at[of], row[of], begin[of] + 5)
        condition, of = np.nonzero(now.happened.found[:, at] & self._is_found[:, None])
        self._conditions(person[of], row[of], condition, end[of], end[of], False)
        self._histories(now, at, row, end)
        is_due = now.month - self._prescribed[:, person] >= _RENEWED_AFTER_MONTHS
        drug, of = np.nonzero((now.people.on[:, at] & is_due) | now.happened.started[:, at])
        self._prescribed[drug, person[of]] = now.month
        self.record.prescriptions.add(len(of), person=person[of], encounter=row[of], drug=drug, time=end[of])

    def _histories(self, now: _Now, at: Ints, row: Ints, end: Ints) -> None:
        """At the first occasion on record, what is known already is copied in, with a date that somebody remembers."""
        new = np.flatnonzero(~self._has_history[now.who[at]])
        self._has_history[now.who[at[new]]] = True
        was_known = now.people.known[:, at[new]] & ~now.happened.found[:, at[new]] & self._is_history[:, None]
        condition, of = np.nonzero(was_known)
        years, of = 0.5 + 9.5 * now.rng.random(len(of)), new[of]
        onset = end[of] - (years * 365.25 * DAY_MINUTES).astype(np.int64)
        self._conditions(now.who[at[of]], row[of], condition, onset, end[of], False)

    def _order(self, now: _Now, number: int, at: Ints, row: Ints, time: Ints) -> None:
        order, person = self._world.raw["orders"][self._world.orders[number]], now.who[at]
        if "procedure" in order or "vaccine" in order:
            self.record.done.add(len(at), person=person, encounter=row, order=number, time=time)
        values = {name: self._value(now, name, at) for name in order.get("results", [])}
        diastolic = values.pop("dbp", np.nan)
        for name, value in values.items():
            hours = self._world.raw["measurements"][name].get("hours", 0)
            second = diastolic if name == "sbp" else np.nan
            self._results(now, name, person, row, time, number, value, hours, second)

    def _value(self, now: _Now, result: str, at: Ints) -> Floats:
        """One result of each, in the unit of measurements.toml."""
        one, world, people = self._world.raw["measurements"][result], self._world, now.people
        formula, level = one.get("formula"), np.zeros(len(at))
        if one["of"] in world.states:
            state = world.states.index(one["of"])
            offset = np.array([site["offset"] for site in world.raw["care"]["sites"]])[people.site[at]]
            error = now.happened.error[state, at] if formula in _OWN_ERROR else now.rng.standard_normal(len(at))
            level = measured_level(people.level[state, at], error + 0.2 * offset, one)
        return by_formula(world, formula, level, people, at, self._height[people.is_male[at], now.who[at]])

    def _results(
        self, now: _Now, result: str, person: Ints, row: Ints, time: Ints, order: int,
        value: Floats, hours: float, second: Floats | float,
    ) -> None:  # fmt: skip
        waited = (hours * 60 * np.exp(_SPREAD_OF_HOURS * now.rng.standard_normal(len(person)))).astype(np.int64)
        self.record.results.add(
            len(person), person=person, encounter=row, result=self._world.results.index(result), order=order,
            value=value, second=second, time=time, issued=time + waited,
        )  # fmt: skip

    def _conditions(
        self, person: Ints, row: Ints, condition: Ints | int, onset: Ints, recorded: Ints, is_main: bool
    ) -> None:
        self.record.conditions.add(
            len(person), person=person, encounter=row, condition=condition,
            onset=onset, recorded=recorded, is_main=is_main,
        )  # fmt: skip


def _people(world: World, rng: np.random.Generator) -> dict[str, npt.NDArray]:
    population = world.raw["care"]["population"]
    race = rng.choice(len(population["race"]), BLOCK, p=[share for _, share in population["race"].values()])
    is_hispanic = rng.random(BLOCK) < population["hispanic"]
    nobody = np.zeros(BLOCK, np.int64)
    return {
        "site": nobody, "sex": nobody.copy(), "days": np.full(BLOCK, np.nan), "died": np.full(BLOCK, NEVER),
        "race": race, "ethnicity": is_hispanic,
    }  # fmt: skip
