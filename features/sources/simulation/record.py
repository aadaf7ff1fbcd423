"""What is written down of a block of lives: visits and stays with their times, and what was found in them.

A record is not the truth: results carry error and come back hours later, diagnoses stand under the site's own codes,
people who have moved away leave no trace. Times are minutes since the records begin (UTC). Within a person's own month,
deaths come first, then what happens by itself, then the visit (engine.py).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.simulation.bodies import People
from features.sources.simulation.engine import Month
from features.sources.simulation.hazards import SEXES, Bools, Floats, Ints
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.results import OWN_ERROR, result_of
from features.sources.simulation.rounds import rounds
from features.sources.simulation.world import World

MONTH_MINUTES = 43_830  # a twelfth of 365.25 days
DAY_MINUTES = 1440
AMBULATORY, EMERGENCY, INPATIENT = range(3)
HOME, OTHER_FACILITY, HOME_CARE, DIED = range(4)
NEVER = np.iinfo(np.int64).max
DOCTORS = 6  # a site
_DEATHS, _HAPPENINGS, _VISITS = (0.0, 0.05), (0.06, 0.50), (0.56, 0.96)  # parts of the month
_RENEWED_AFTER_MONTHS = 10
_UNKNOWN_MONTH = -100
_SPREAD_OF_HOURS = 0.5
_ACUTE = ("pneumonia", "sepsis", "hip_fracture", "copd_exacerbation")  # written off after some days
_ACUTE_DAYS = 60
_COLUMNS = {
    "Encounter": "patient kind type reason priority disposition site practitioner condition start end",
    "Observation": "patient encounter code answer value systolic diastolic decimals order time issued",
    "Condition": "patient encounter code category onset abatement recorded",
    "MedicationRequest": "patient encounter code practitioner time",
    "Procedure": "patient encounter code time end",
    "Immunization": "patient encounter code time",
}

Table = dict[str, npt.NDArray]


class Rows:
    """A table being filled. Values and pressures are floats, nan where not given; the rest whole numbers, else -1."""

    def __init__(self, columns: str) -> None:
        self._names = columns.split()
        self._parts: list[tuple[int, int, dict[str, npt.NDArray | float]]] = []
        self._length = 0

    def next(self, count: int) -> Ints:
        """The places of the next `count` rows."""
        return self._length + np.arange(count)

    def add(self, patient: Ints, **columns: npt.NDArray | float) -> Ints:
        """Append a row for each of `patient`, a single value standing for all; returns the rows' places."""
        places = self.next(len(patient))
        if len(places):
            self._parts.append((self._length, self._length + len(places), columns | {"patient": patient}))
            self._length += len(places)
        return places

    def done(self) -> Table:
        """Whole columns."""
        floats = dict.fromkeys(("value", "systolic", "diastolic"), np.nan)
        whole: Table = {name: np.full(self._length, floats.get(name, -1)) for name in self._names}
        for start, end, columns in self._parts:
            for name, column in columns.items():
                whole[name][start:end] = column
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


class Recorder:
    """Writes month after month of one block down.

    rows: by type, with columns named as the places and codes of its shape (shapes/*.json): patient is the number in the
    block, encounter and condition (the main one of a stay) places among the rows of those types, codes places in the lists of writing.py.
    people: the same of the people; days: lived when the records begin. visit_ends: of each person's latest visit.
    """

    def __init__(self, world: World, seed: int, block: int) -> None:
        rng, care = np.random.default_rng([seed, block, 2]), world.raw["care"]
        self._world, self._seed, self._block = world, seed, block
        self._phase = rng.integers(0, MONTH_MINUTES, BLOCK)
        height = np.array([care["height"][sex] for sex in SEXES])
        self._height = height[:, :1] + height[:, 1:] * rng.standard_normal((2, BLOCK))  # cm, as a woman, as a man
        self.rows = {kind: Rows(columns) for kind, columns in _COLUMNS.items()}
        self.people = _people(care["population"], np.random.default_rng([seed, block, 4]))
        self.visit_ends = np.zeros(BLOCK, np.int64)
        self._busy_until = np.zeros(BLOCK, np.int64)
        self._has_history = np.zeros(BLOCK, bool)  # who came with one, written at the first occasion
        self._prescribed = np.full((len(world.drugs), BLOCK), _UNKNOWN_MONTH)  # month
        conditions = [world.raw["conditions"][name] for name in world.conditions]
        brings_stay, passes, has_code = (
            np.array([key in one and one[key] is not False for one in conditions]) for key in ("stay", "passes", "code")
        )
        self._is_found = has_code & ~brings_stay  # the others are written with the stay that they bring
        self._is_history = has_code & ~(brings_stay & passes)
        self._is_planned = np.array([world.raw["stays"][name].get("planned", False) for name in world.stays])
        spellings = [len(world.raw["measurements"][name]["codes"]) for name in world.results]
        self._first_code = dict(zip(world.results, np.cumsum([0, *spellings[:-1]]), strict=True))

    def write(self, month: int, people: People, happened: Month, who: Ints) -> None:
        """One month of the people numbered `who`."""
        rng = np.random.default_rng([self._seed, self._block, 3, month])
        now = _Now(month, people, happened, who, month * MONTH_MINUTES + self._phase[who], rng)
        new = np.flatnonzero(np.isnan(self.people["days"][who]))
        self.people["site"][who[new]], self.people["sex"][who[new]] = people.site[new], people.is_male[new]
        days = (people.age[new] - (month + 1) / 12) * 365.25
        self.people["days"][who[new]] = days - self._phase[who[new]] / DAY_MINUTES
        dead = np.flatnonzero(happened.died_of >= 0)
        self.people["died"][who[dead]] = now.minutes(_DEATHS, dead)
        for turn in range(len(happened.stays)):
            self._stays(now, turn)
        at = np.flatnonzero(happened.emergency & (happened.died_of < 0))
        begin = np.maximum(now.minutes(_HAPPENINGS, at), self._busy_until[who[at]] + 300)
        self._open(now, at, EMERGENCY, begin, begin + rng.integers(100, 480, len(at)))
        at = np.flatnonzero(happened.visit)
        begin = np.maximum(now.minutes(_VISITS, at), self._busy_until[who[at]] + DAY_MINUTES)
        begin = begin // DAY_MINUTES * DAY_MINUTES + rng.integers(8 * 12, 17 * 12, len(at)) * 5  # office hours
        visits = self._open(now, at, AMBULATORY, begin, begin + rng.integers(3, 9, len(at)) * 5)
        self.visit_ends[visits.patient] = visits.end
        self._care(now, visits)

    def _stays(self, now: _Now, turn: int) -> None:
        at, stays = now.happened.stays[turn]
        rng, patient, is_planned = now.rng, now.who[at], self._is_planned[stays.kind]
        if turn == 0:
            begin = now.minutes(_HAPPENINGS, at)
        else:  # those who come back are the returners of the stays before, in their order
            before = now.happened.stays[turn - 1][1]
            begin = self._busy_until[patient] + (before.return_days[before.returns] * DAY_MINUTES).astype(np.int64)
            is_planned = is_planned | before.return_is_planned[before.returns]
        begin = begin // DAY_MINUTES * DAY_MINUTES + stays.admitted_at * 60 + rng.integers(0, 60, len(at))
        begin = np.maximum(begin, self._busy_until[patient] + 120)
        end = begin + stays.hours * 60 + rng.integers(0, 60, len(at))
        self._busy_until[patient] = end
        frail, age = now.people.level[self._world.states.index("frailty"), at], now.people.age[at]
        u = rng.random(len(at)) - 0.6 * (frail - 0.12) - 0.03 * (age - 60) / 10 - 0.1 * (stays.hours > 120)
        left = np.select([stays.died, u < 0.10, u < 0.21], [DIED, OTHER_FACILITY, HOME_CARE], HOME)
        encounter, main = self.rows["Encounter"].next(len(at)), np.full(len(at), -1)
        for condition, name in enumerate(self._world.conditions):
            if "stay" in (one := self._world.raw["conditions"][name]):
                of = np.flatnonzero((stays.kind == self._world.stays.index(one["stay"])) & (rng.random(len(at)) < 0.93))
                abatement = begin[of] + _ACUTE_DAYS * DAY_MINUTES if name in _ACUTE else NEVER
                about = {"encounter": encounter[of], "code": condition, "category": 1, "onset": begin[of]}
                main[of] = self._diagnose(patient[of], **about, recorded=end[of], abatement=abatement)
        more = {"priority": is_planned, "reason": stays.kind, "disposition": left, "condition": main}
        own = self._open(now, at, INPATIENT, begin, end, **more)
        self.people["died"][patient[stays.died]] = end[stays.died]
        for one in rounds(self._world, stays, now.people, at, rng):
            of = own.only(one.stay)
            self._results(now, one.result, of, of.begin + one.minute, one.value, one.hours, one.second)
        if turn == 0:
            self._care(now, own._replace(begin=begin + 90).only(~stays.died))

    def _open(self, now: _Now, at: Ints, kind: int, begin: Ints, end: Ints, **more: npt.NDArray) -> _Occasions:
        patient = now.who[at]
        visit_type = 2 + (self.rows["Encounter"].next(len(at)) * 7 + patient) % 4
        about = {
            "kind": kind,
            "type": visit_type if kind == AMBULATORY else INPATIENT - kind,
            "start": begin,
            "end": end,
        }
        about |= {"site": self.people["site"][patient], "practitioner": self._doctor(patient, kind)}
        return _Occasions(at, patient, self.rows["Encounter"].add(patient, **about, **more), begin, end)

    def _care(self, now: _Now, seen: _Occasions) -> None:
        """What is measured, found and prescribed on one occasion of each."""
        for order in range(len(self._world.orders)):
            of = seen.only(now.happened.ordered[order, seen.at])
            if len(of.at):
                self._order(now, order, of)
        condition, at = np.nonzero(now.happened.found[:, seen.at] & self._is_found[:, None])
        of = seen.only(at)
        self._diagnose(of.patient, encounter=of.encounter, code=condition, onset=of.end, recorded=of.end)
        self._histories(now, seen.only(~self._has_history[seen.patient]))
        is_due = now.month - self._prescribed[:, seen.patient] >= _RENEWED_AFTER_MONTHS
        drug, at = np.nonzero((now.people.on[:, seen.at] & is_due) | now.happened.started[:, seen.at])
        of, doctor = seen.only(at), self._doctor(seen.patient[at], AMBULATORY)
        self._prescribed[drug, of.patient] = now.month
        about = {"encounter": of.encounter, "practitioner": doctor}
        self.rows["MedicationRequest"].add(of.patient, **about, code=drug, time=of.end)

    def _histories(self, now: _Now, seen: _Occasions) -> None:
        """At the first occasion on record, what is known already is copied in, with a date that somebody remembers."""
        self._has_history[seen.patient] = True
        was_known = now.people.known[:, seen.at] & ~now.happened.found[:, seen.at] & self._is_history[:, None]
        condition, at = np.nonzero(was_known)
        of, years = seen.only(at), 0.5 + 9.5 * now.rng.random(len(at))
        onset = of.end - (years * 365.25 * DAY_MINUTES).astype(np.int64)
        self._diagnose(of.patient, encounter=of.encounter, code=condition, onset=onset, recorded=of.end)

    def _diagnose(self, patient: Ints, code: Ints | int, **about: npt.NDArray | int) -> Ints:
        is_icd = self._world.of_sites("icd")[self.people["site"][patient]]
        about = {"category": 0, "abatement": NEVER, "code": code + is_icd * len(self._world.conditions)} | about
        return self.rows["Condition"].add(patient, **about)

    def _order(self, now: _Now, number: int, of: _Occasions) -> None:
        order, time = self._world.raw["orders"][self._world.orders[number]], of.begin + 5
        if "procedure" in order:
            self.rows["Procedure"].add(of.patient, encounter=of.encounter, code=number, time=time, end=time + 15)
        if "vaccine" in order:
            self.rows["Immunization"].add(of.patient, encounter=of.encounter, code=number, time=time)
        values = {name: self._value(now, name, of) for name in order.get("results", [])}
        diastolic = values.pop("dbp", np.nan)
        for name, value in values.items():
            hours = self._world.raw["measurements"][name].get("hours", 0)
            self._results(now, name, of, time, value, hours, diastolic, number)

    def _value(self, now: _Now, name: str, of: _Occasions) -> Floats:
        one, states = self._world.raw["measurements"][name], self._world.states
        error = self._world.of_sites("offset")[now.people.site[of.at]] * 0.2
        if one["of"] in states:
            is_own = one.get("formula") in OWN_ERROR
            error += (
                now.happened.error[states.index(one["of"]), of.at] if is_own else now.rng.standard_normal(len(of.at))
            )
        height = self._height[now.people.is_male[of.at], of.patient]
        return result_of(self._world, name, now.people, of.at, error, height)

    def _results(
        self,
        now: _Now,
        name: str,
        of: _Occasions,
        time: Ints,
        value: Floats,
        hours: float,
        diastolic: Floats | float,
        order: int = -1,
    ) -> None:
        one = self._world.raw["measurements"][name]
        spelling = np.minimum(self._world.of_sites("spelling")[self.people["site"][of.patient]], len(one["codes"]) - 1)
        waited = (hours * 60 * np.exp(_SPREAD_OF_HOURS * now.rng.standard_normal(len(time)))).astype(np.int64)
        about = {"encounter": of.encounter, "code": self._first_code[name] + spelling, "time": time, "order": order}
        is_answer = one.get("formula") == "smoking"
        values = (
            {"systolic": value, "diastolic": diastolic}
            if name == "sbp"
            else {"answer" if is_answer else "value": value}
        )
        self.rows["Observation"].add(of.patient, **about, **values, issued=time + waited, decimals=one["decimals"])

    def _doctor(self, patient: Ints, kind: int) -> Ints:
        return self.people["site"][patient] * DOCTORS + (patient + kind) % DOCTORS


def _people(population: dict, rng: np.random.Generator) -> Table:
    race = rng.choice(len(population["race"]), BLOCK, p=[share for _, share in population["race"].values()])
    ethnicity = (rng.random(BLOCK) < population["hispanic"]).astype(np.int64)
    people = {"patient": np.arange(BLOCK), "race": race, "ethnicity": ethnicity, "died": np.full(BLOCK, NEVER)}
    return people | {"sex": np.zeros_like(race), "site": np.zeros_like(race), "days": np.full(BLOCK, np.nan)}
