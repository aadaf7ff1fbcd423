"""What is written down of a block of lives: visits and stays with their times, and what was found in them.

A record is not the truth: results carry error and come back hours later, diagnoses stand under the site's own codes,
of people who have moved away it knows only that. Times are minutes since the records begin (UTC). Within a person's own
month, deaths come first, then what happens by itself, then the visit (engine.py).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.simulation.bodies import People
from features.sources.simulation.engine import Month
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.results import Values, result_of, rounds
from features.sources.simulation.stays import RETURN_DAYS, StayPaths
from features.sources.simulation.world import SEXES, Bools, Ints, World

MONTH_MINUTES, DAY_MINUTES = 43_830, 1440  # a month is a twelfth of 365.25 days
AMBULATORY, EMERGENCY, INPATIENT = range(3)
HOME, OTHER_FACILITY, HOME_CARE, DIED = range(4)
NEVER = np.iinfo(np.int64).max
DOCTORS = 6  # a site
_VISIT_TYPES = 4  # of shapes/codes.toml
_DEATHS, HAPPENINGS, _VISITS = (0.0, 0.05), (0.06, 0.50), (0.56, 0.90)  # parts of the month
_LASTS_MONTHS = 10  # a prescription
_ORDERED_MINUTES, _DONE_MINUTES = 5, 10  # after a visit's beginning, and what a procedure takes; no visit is shorter
_SPREAD_OF_HOURS = 0.5
_COLUMNS = {
    "Encounter": "patient kind type reason priority disposition site practitioner condition start end",
    "Observation": "patient encounter code answer value systolic diastolic decimals order time issued",
    "Condition": "patient encounter code category onset abatement recorded",
    "MedicationRequest": "patient encounter code practitioner time end",
    "Procedure": "patient encounter code time done",
    "Immunization": "patient encounter code time",
}

Table = dict[str, npt.NDArray]


class GrowingTable:
    """A table being filled. Values and pressures are floats, nan where not given; the rest whole numbers, else -1."""

    def __init__(self, columns: str) -> None:
        self._names, self._parts = columns.split(), list[tuple[Ints, Mapping[str, npt.ArrayLike]]]()
        self.length = 0

    def add(self, patient: Ints, **columns: npt.ArrayLike) -> Ints:
        """Append a row for each of `patient`, a single value standing for all; returns the rows' places."""
        places = np.arange(self.length, self.length + len(patient))
        if len(patient):
            self._parts.append((places, {"patient": patient, **columns}))
        self.length += len(patient)
        return places

    def done(self) -> Table:
        """Whole columns."""
        floats = dict.fromkeys(("value", "systolic", "diastolic"), np.nan)
        whole: Table = {name: np.full(self.length, floats.get(name, -1)) for name in self._names}
        for places, columns in self._parts:
            for name, column in columns.items():
                whole[name][places[0] : places[-1] + 1] = column
        return whole


class _Now(NamedTuple):
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


class _Occasions(NamedTuple):
    """Visits, or stays, at which somebody is looked after; `at` are places among the month's people."""

    at: Ints
    patient: Ints
    encounter: Ints
    begin: Ints
    end: Ints

    def only(self, which: Ints | Bools) -> "_Occasions":
        """Some of them."""
        return _Occasions(*(column[which] for column in self))


def times_of_stays(
    chain: list[tuple[Ints, StayPaths]], near: Ints, free: Ints, rng: np.random.Generator
) -> Iterator[tuple[Ints, StayPaths, Ints, Ints]]:
    """Whose, the paths, the minutes of admission and of the end: of stays and returns (engine.py), group after group.

    For each person: `near`, about when the first begins, at the hour that its path says; `free`, since when the person
    is out of hospital. Both are moved on. A return comes within 30 days, to the minute.
    """
    for turn, (at, stays) in enumerate(chain):
        begin = near[at] // DAY_MINUTES * DAY_MINUTES + stays.admitted_at * 60 + rng.integers(0, 60, len(at))
        begin -= DAY_MINUTES * ((turn > 0) & (begin - free[at] > RETURN_DAYS * DAY_MINUTES))  # so a day before
        begin += -(-np.maximum(free[at] + 120 - begin, 0) // DAY_MINUTES) * DAY_MINUTES  # or so many days after
        free[at] = end = begin + stays.hours * 60 + rng.integers(1, 60, len(at))
        near[at] = end + (stays.return_days * DAY_MINUTES).astype(np.int64)
        yield at, stays, begin, end


class Recorder:
    """Writes month after month of one block down, into `rows` by type and `people` (days: lived as the records begin).

    Columns are named as the places and codes of the shapes (shapes/*.json): patient is the number in the block,
    encounter and condition places among those rows, codes places in writing.py's lists. visit_ends: of the latest.
    stays: of the latest month, as times_of_stays gives them.
    """

    def __init__(self, world: World, seed: int, block: int) -> None:
        rng, care, acute = np.random.default_rng([seed, block, 2]), world.raw["care"], world.raw["rounds"]["acute"]
        self._world, self._seed, self._block = world, seed, block
        self.phase = rng.integers(0, MONTH_MINUTES, BLOCK)
        height = np.array([care["height"][sex] for sex in SEXES])
        self._height = height[:, :1] + height[:, 1:] * rng.standard_normal((2, BLOCK))  # cm, as a woman, as a man
        self.rows = {kind: GrowingTable(columns) for kind, columns in _COLUMNS.items()}
        races, nobody = care["population"]["race"], np.zeros(BLOCK, np.int64)
        self.people = {"patient": np.arange(BLOCK), "died": np.full(BLOCK, NEVER), "days": np.full(BLOCK, np.nan)}
        self.people["moved"] = np.full(BLOCK, NEVER)
        self.people |= {"sex": nobody, "site": nobody.copy()}
        self.people["race"] = rng.choice(len(races), BLOCK, p=[share for _, share in races.values()])
        self.people["ethnicity"] = (rng.random(BLOCK) < care["population"]["hispanic"]).astype(np.int64)
        self.visit_ends, self.stays = np.zeros(BLOCK, np.int64), list[tuple[Ints, StayPaths, Ints, Ints]]()
        self._busy_until = np.zeros(BLOCK, np.int64)  # the end of each person's latest visit or stay
        self._has_history = np.zeros(BLOCK, bool)  # who came with one, written at the first occasion
        self._prescribed = np.full((len(world.drugs), BLOCK), -_LASTS_MONTHS)  # month
        conditions = [world.raw["conditions"][name] for name in world.conditions]
        brings_stay, has_code = (np.array([key in one for one in conditions]) for key in ("stay", "code"))
        self._is_found = has_code & ~brings_stay  # the others are written with the stay that they bring
        self._is_history = has_code & ~(brings_stay & world.passes)
        may_end = world.passes | np.isin(world.conditions, [one.get("clears") for one in conditions])
        self._may_end = (self._is_found & may_end)[:, None]
        self._is_over, self._entry = np.zeros((2, len(conditions), BLOCK), np.int64)  # of the latest entry: its row
        self.over: list[tuple[Ints, Ints]] = []  # rows of conditions, and the minute at which they are written off
        self._acute_minutes = np.where(np.isin(world.conditions, acute["conditions"]), acute["days"] * DAY_MINUTES, 0)
        spellings = [len(world.raw["measurements"][name]["codes"]) for name in world.results]
        self._first_code = dict(zip(world.results, np.cumsum([0, *spellings[:-1]]), strict=True))

    def write(self, month: int, people: People, happened: Month, who: Ints) -> None:
        """One month of the people numbered `who`."""
        rng = np.random.default_rng([self._seed, self._block, 3, month])
        now = _Now(month, people, happened, who, month * MONTH_MINUTES + self.phase[who], rng)
        new = np.flatnonzero(np.isnan(self.people["days"][who]))
        self.people["site"][who[new]], self.people["sex"][who[new]] = people.site[new], people.is_male[new]
        days = (people.age[new] - (month + 1) / 12) * 365.25
        self.people["days"][who[new]] = days - self.phase[who[new]] / DAY_MINUTES
        at = np.flatnonzero(happened.died_of >= 0)
        self.people["died"][who[at]] = np.maximum(now.minutes(_DEATHS, at), self._busy_until[who[at]] + 60)
        everybody = np.arange(len(who))
        near, free = now.minutes(HAPPENINGS, everybody), self._busy_until[who]
        self.stays = list(times_of_stays(happened.stays, near, free, rng))
        for turn, stays in enumerate(self.stays):
            self._stays(now, turn, *stays)
        at = np.flatnonzero(happened.emergency)
        begin = np.maximum(now.minutes(HAPPENINGS, at), self._busy_until[who[at]] + 300)
        self._open(now, at, EMERGENCY, begin, begin + rng.integers(100, 480, len(at)))
        at = np.flatnonzero(happened.visit)
        begin = np.maximum(now.minutes(_VISITS, at), self._busy_until[who[at]] + DAY_MINUTES)
        day = begin // DAY_MINUTES
        day += np.array([0, 0, 0, 0, 0, 2, 1])[(day + self._world.begin.weekday()) % 7]  # a weekend's on Monday
        begin = day * DAY_MINUTES + rng.integers(8 * 12, 17 * 12, len(at)) * 5  # office hours
        visits = self._open(now, at, AMBULATORY, begin, begin + rng.integers(3, 9, len(at)) * 5)
        self.visit_ends[visits.patient] = visits.end
        self._care(now, visits)
        at = np.flatnonzero(happened.moved & people.alive)
        self.people["moved"][who[at]] = np.maximum(now.start[at] + MONTH_MINUTES, self._busy_until[who[at]] + 60)

    def _stays(self, now: _Now, turn: int, at: Ints, stays: StayPaths, begin: Ints, end: Ints) -> None:
        rng, patient = now.rng, now.who[at]
        frail, age = now.people.level[self._world.states.index("frailty"), at], now.people.age[at]
        u = rng.random(len(at)) - 0.6 * (frail - 0.12) - 0.03 * (age - 60) / 10 - 0.1 * (stays.hours > 120)
        left = np.select([stays.died, u < 0.10, u < 0.015 + 0.0034 * age], [DIED, OTHER_FACILITY, HOME_CARE], HOME)
        condition, main = self._world.condition_of_stay[stays.kind], np.full(len(at), -1)
        of = np.flatnonzero((condition >= 0) & now.happened.is_named[at])
        own = _Occasions(at, patient, self.rows["Encounter"].length + np.arange(len(at)), begin, end)
        main[of] = self._diagnose(own.only(of), condition[of], begin[of], category=1)
        about = {"reason": stays.kind, "priority": stays.is_planned, "disposition": left, "condition": main}
        self._open(now, at, INPATIENT, begin, end, **about)
        self.people["died"][patient[stays.died]] = end[stays.died]
        for stay, minute, values, hours in rounds(self._world, stays, now.people, at, rng):
            self._results(now, own.only(stay), minute, values, hours)
        if turn == 0:
            self._care(now, own._replace(begin=begin + 90).only(~stays.died))

    def _open(self, now: _Now, at: Ints, kind: int, begin: Ints, end: Ints, **more: npt.NDArray) -> _Occasions:
        patient, site = now.who[at], now.people.site[at]
        doctor = site * DOCTORS + (patient + kind) % DOCTORS
        visit_type = now.rng.integers(2, 2 + _VISIT_TYPES, len(at)) if kind == AMBULATORY else INPATIENT - kind
        about = {"site": site, "practitioner": doctor, "start": begin, "end": end}
        row = self.rows["Encounter"].add(patient, kind=kind, type=visit_type, **about, **more)
        self._busy_until[patient] = end
        return _Occasions(at, patient, row, begin, end)

    def _care(self, now: _Now, seen: _Occasions) -> None:
        """What is measured, found and prescribed on one occasion of each."""
        for order in range(len(self._world.orders)):
            of = seen.only(now.happened.ordered[order, seen.at])
            if len(of.at):
                self._order(now, order, of)
        condition, at = np.nonzero(now.happened.found[:, seen.at] & self._is_found[:, None])
        self._diagnose(seen.only(at), condition, seen.end[at])
        # On the first occasion, what is known already is copied in, with a date that somebody remembers.
        new = seen.only(~self._has_history[seen.patient])
        self._has_history[new.patient] = True
        was_known = now.people.known[:, new.at] & ~now.happened.found[:, new.at] & self._is_history[:, None]
        condition, at = np.nonzero(was_known)
        days = 365.25 * now.rng.uniform(0.5, 10, len(at))
        self._diagnose(new.only(at), condition, new.end[at] - (days * DAY_MINUTES).astype(np.int64))
        # What has passed is written off, and entered anew when it is back.
        has, was_over = now.people.has[:, seen.at], self._is_over[:, seen.patient] == 1
        known = now.people.known[:, seen.at] & ~now.happened.found[:, seen.at] & self._may_end
        condition, at = np.nonzero(known & (has == was_over))
        is_back, patient = has[condition, at], seen.patient[at]
        self.over.append((self._entry[condition, patient][~is_back], seen.end[at[~is_back]]))
        self._is_over[condition, patient] = ~is_back
        self._diagnose(seen.only(at[is_back]), condition[is_back], seen.end[at[is_back]])
        is_due = now.month - self._prescribed[:, seen.patient] >= _LASTS_MONTHS
        drug, at = np.nonzero((now.people.on[:, seen.at] & is_due) | now.happened.started[:, seen.at])
        of = seen.only(at)
        self._prescribed[drug, of.patient] = now.month
        doctor, over = now.people.site[of.at] * DOCTORS + of.patient % DOCTORS, of.end + _LASTS_MONTHS * MONTH_MINUTES
        about = {"encounter": of.encounter, "practitioner": doctor, "time": of.end, "end": over}
        self.rows["MedicationRequest"].add(of.patient, code=drug, **about)

    def _diagnose(self, of: _Occasions, condition: Ints, onset: Ints, category: int = 0) -> Ints:
        is_icd = self._world.of_sites("icd")[self.people["site"][of.patient]]
        over = np.where(self._acute_minutes[condition] > 0, onset + self._acute_minutes[condition], NEVER)
        code = condition + is_icd * len(self._world.conditions)
        about = {"encounter": of.encounter, "code": code, "onset": onset, "recorded": of.end, "abatement": over}
        rows = self.rows["Condition"].add(of.patient, category=category, **about)
        self._entry[condition, of.patient] = rows
        return rows

    def _order(self, now: _Now, number: int, of: _Occasions) -> None:
        order, people = self._world.raw["orders"][self._world.orders[number]], now.people
        about = {"encounter": of.encounter, "time": of.begin + _ORDERED_MINUTES}
        if "procedure" in order:
            self.rows["Procedure"].add(of.patient, code=number, **about, done=about["time"] + _DONE_MINUTES)
        if "vaccine" in order:
            self.rows["Immunization"].add(of.patient, code=number, **about)
        height, error = self._height[people.is_male[of.at], of.patient], now.happened.error[:, of.at]
        values = {name: result_of(self._world, name, people, of.at, error, height) for name in order.get("results", [])}
        self._results(now, of, np.full(len(of.at), _ORDERED_MINUTES), values, order=number)

    def _results(
        self, now: _Now, of: _Occasions, minute: Ints, values: Values, hours: float | None = None, order: int = -1
    ) -> None:
        """Write results taken `minute` after each beginning, and issued some `hours` later, if not as usual."""
        time, site = of.begin + minute, self.people["site"][of.patient]
        about = {"encounter": of.encounter, "time": time}
        diastolic = values.pop("dbp", None)
        for name, value in values.items():
            one = self._world.raw["measurements"][name]
            spelling = np.minimum(self._world.of_sites("spelling")[site], len(one["codes"]) - 1)
            median = one.get("hours", 0) if hours is None else hours
            waited = median * 60 * np.exp(_SPREAD_OF_HOURS * now.rng.standard_normal(len(time)))
            more = {"code": self._first_code[name] + spelling, "issued": time + waited.astype(np.int64)}
            if diastolic is not None and name == "sbp":
                more |= {"systolic": value, "diastolic": np.minimum(diastolic, value - 10)}
            else:
                more |= {"answer" if one.get("formula") == "smoking" else "value": value}
            self.rows["Observation"].add(of.patient, order=order, decimals=one["decimals"], **about, **more)
