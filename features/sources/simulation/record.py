"""What is written down of a block of lives: visits and stays with their times, and what was found in them.

A record is not the truth: results carry error and come back hours later, diagnoses stand under the site's own codes,
people who have moved away leave no trace. Times are minutes since the records begin (UTC). Within a person's own month,
deaths come first, then what happens by itself, then the visit (engine.py).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.sources.simulation.engine import Month, People, measured_level
from features.sources.simulation.stays import StayPaths
from features.sources.simulation.world import World

Ints = npt.NDArray[np.int64]
MONTH_MINUTES = 43_830  # a twelfth of 365.25 days
DAY_MINUTES = 1440
AMBULATORY, EMERGENCY, INPATIENT = range(3)
HOME, OTHER_FACILITY, HOME_CARE, DIED = range(4)
_DEATHS = (0.0, 0.05)  # parts of the month
_HAPPENINGS = (0.06, 0.50)
_VISITS = (0.56, 0.96)
_RENEWED_AFTER_MONTHS = 10
_UNKNOWN_MONTH = -100
_SPREAD_OF_HOURS = 0.5
_LOWEST = {"sbp": 50, "dbp": 25, "oxygen_saturation": 60, "respiratory_rate": 6, "heart_rate": 30, "temperature": 33}
_STAY_LABORATORY = ("creatinine", "sodium", "potassium", "haemoglobin", "leucocytes", "platelets")


@dataclass
class Columns:
    """A table being filled: arrays of equal length, appended together."""

    names: tuple[str, ...]
    parts: dict[str, list] = field(default_factory=dict)

    def add(self, **columns) -> None:
        """Append a row for each of `person`; a single value stands for all of them."""
        if len(columns["person"]):
            for name in self.names:
                self.parts.setdefault(name, []).append(np.broadcast_to(columns[name], (len(columns["person"]),)))

    def done(self) -> dict[str, npt.NDArray]:
        """Whole columns."""
        return {name: np.concatenate(self.parts[name]) if name in self.parts else np.array([]) for name in self.names}


@dataclass
class Record:
    """What is written of a block. `person` is the number in the block, `encounter` a row of encounters.

    encounters: person, kind, start, end, reason (a kind of stay or -1), disposition, is_planned. results: person, encounter, result
    (of world.results), value, second (the diastolic
    beside a systolic pressure), time, issued, order (of world.orders, -1 in a stay's own round). conditions: person,
    encounter, condition, onset, recorded, is_main (what brought them into hospital). prescriptions: person, encounter, drug, time. done:
    person, encounter, order, time (procedures and vaccines). deaths: person, time, cause (-1 in hospital).
    """

    encounters: Columns = field(
        default_factory=lambda: Columns(
            ("person", "kind", "start", "end", "reason", "disposition", "is_planned", "month")
        )
    )
    results: Columns = field(
        default_factory=lambda: Columns(("person", "encounter", "result", "value", "second", "time", "issued", "order"))
    )
    conditions: Columns = field(
        default_factory=lambda: Columns(("person", "encounter", "condition", "onset", "recorded", "is_main"))
    )
    prescriptions: Columns = field(default_factory=lambda: Columns(("person", "encounter", "drug", "time")))
    done: Columns = field(default_factory=lambda: Columns(("person", "encounter", "order", "time")))
    deaths: Columns = field(default_factory=lambda: Columns(("person", "time", "cause")))


class Recorder:
    """Writes month after month of one block down."""

    def __init__(self, world: World, seed: int, block: int, people: int) -> None:
        rng = np.random.default_rng([seed, block, 2])
        self.record = Record()
        self.phase = rng.integers(0, MONTH_MINUTES, people)
        self.height = _heights(world, rng.standard_normal((2, people)))
        self._world, self._seed, self._block = world, seed, block
        self._encounters = 0
        self._is_written = np.zeros(people, bool)  # the history of who came with one
        self._busy_until = np.zeros(people, np.int64)
        self.visit_ends = np.zeros(people, np.int64)  # the end of each person's latest visit
        self._prescribed = np.full((len(world.drugs), people), _UNKNOWN_MONTH)
        self._stay_conditions = {
            world.stays.index(one["stay"]): i
            for i, name in enumerate(world.conditions)
            if "stay" in (one := world.raw["conditions"][name])
        }

    def write(self, month: int, people: People, happened: Month, who: Ints) -> None:
        """One month of the people numbered `who`."""
        rng = np.random.default_rng([self._seed, self._block, 3, month])
        start = month * MONTH_MINUTES + self.phase[who]
        self._deaths(happened, who, start, rng)
        for turn, (stay_of, stays) in enumerate(happened.stays):
            self._stays(turn, stay_of, stays, month, people, happened, who, start, rng)
        self._emergencies(month, happened, who, start, rng)
        self._visits(month, people, happened, who, start, rng)

    def _deaths(self, happened: Month, who: Ints, start: Ints, rng: np.random.Generator) -> None:
        dead = np.flatnonzero(happened.died_of >= 0)
        time = start[dead] + _minutes(rng, _DEATHS, len(dead))
        self.record.deaths.add(person=who[dead], time=time, cause=happened.died_of[dead])

    def _stays(self, turn, stay_of, stays: StayPaths, month, people, happened, who, start, rng) -> None:
        person = who[stay_of]
        if turn == 0:
            begin = start[stay_of] + _minutes(rng, _HAPPENINGS, len(stay_of))
        else:  # those who come back are the returners of the stays before, in their order
            before = happened.stays[turn - 1][1]
            begin = self._busy_until[person] + (before.return_days[before.returns] * DAY_MINUTES).astype(np.int64)
        begin = begin // DAY_MINUTES * DAY_MINUTES + stays.admitted_at * 60 + rng.integers(0, 60, len(person))
        begin = np.maximum(begin, self._busy_until[person] + 120)
        end = begin + stays.hours * 60 + rng.integers(0, 60, len(person))
        self._busy_until[person] = end
        frail = people.level[self._world.states.index("frailty"), stay_of]
        u = (
            rng.random(len(person))
            - 0.6 * (frail - 0.12)
            - 0.03 * (people.age[stay_of] - 60) / 10
            - 0.1 * (stays.hours > 120)
        )
        disposition = np.select([stays.died, u < 0.10, u < 0.21], [DIED, OTHER_FACILITY, HOME_CARE], HOME)
        planned = np.array([self._world.raw["stays"][name].get("planned", False) for name in self._world.stays])[
            stays.kind
        ]
        if turn:
            planned = planned | happened.stays[turn - 1][1].return_is_planned[happened.stays[turn - 1][1].returns]
        row = self._open(person, INPATIENT, begin, end, month, stays.kind, disposition, planned)
        for kind, condition in self._stay_conditions.items():
            of = np.flatnonzero((stays.kind == kind) & (rng.random(len(person)) < 0.93))
            self.record.conditions.add(
                person=person[of],
                encounter=row[of],
                condition=condition,
                onset=begin[of],
                recorded=end[of],
                is_main=True,
            )
        dead = np.flatnonzero(stays.died)
        self.record.deaths.add(person=person[dead], time=end[dead], cause=-1)
        self._rounds(stays, stay_of, person, row, begin, people, rng)
        if turn == 0:
            self._care(
                month,
                people,
                happened,
                who,
                stay_of[~stays.died],
                row[~stays.died],
                begin[~stays.died] + 90,
                end[~stays.died],
                rng,
            )

    def _emergencies(self, month, happened, who, start, rng) -> None:
        at = np.flatnonzero(happened.emergency & (happened.died_of < 0))
        begin = np.maximum(start[at] + _minutes(rng, _HAPPENINGS, len(at)), self._busy_until[who[at]] + 300)
        end = begin + rng.integers(100, 480, len(at))
        self._open(who[at], EMERGENCY, begin, end, month, np.full(len(at), -1), np.zeros(len(at), np.int64))

    def _visits(self, month, people, happened, who, start, rng) -> None:
        at = np.flatnonzero(happened.visit)
        planned = start[at] + _minutes(rng, _VISITS, len(at))
        begin = np.maximum(planned, self._busy_until[who[at]] + DAY_MINUTES)
        begin = begin // DAY_MINUTES * DAY_MINUTES + rng.integers(8 * 12, 17 * 12, len(at)) * 5  # office hours
        end = begin + rng.integers(3, 9, len(at)) * 5
        self.visit_ends[who[at]] = end
        row = self._open(who[at], AMBULATORY, begin, end, month, np.full(len(at), -1), np.zeros(len(at), np.int64))
        self._care(month, people, happened, who, at, row, begin, end, rng)

    def _open(self, person, kind, begin, end, month, reason, disposition, planned=False) -> Ints:
        row = self._encounters + np.arange(len(person))
        self._encounters += len(person)
        self.record.encounters.add(
            person=person, kind=np.full(len(person), kind), start=begin, end=end, reason=reason, disposition=disposition,
            is_planned=np.broadcast_to(planned, (len(person),)), month=np.full(len(person), month),
        )  # fmt: skip
        return row

    def _care(self, month, people, happened, who, at, row, begin, end, rng) -> None:
        """What is measured, found and prescribed on one occasion of each of the people `at`."""
        person = who[at]
        for i, name in enumerate(self._world.orders):
            of = np.flatnonzero(happened.ordered[i, at])
            if len(of):
                self._order(
                    i,
                    self._world.raw["orders"][name],
                    people,
                    happened,
                    at[of],
                    person[of],
                    row[of],
                    begin[of] + 5,
                    rng,
                )
        for condition in range(len(self._world.conditions)):
            of = np.flatnonzero(happened.found[condition, at])
            if len(of) and "code" in self._world.raw["conditions"][self._world.conditions[condition]]:
                if condition in self._stay_conditions.values():
                    continue  # written with the stay that brought it
                self.record.conditions.add(
                    person=person[of],
                    encounter=row[of],
                    condition=condition,
                    onset=end[of],
                    recorded=end[of],
                    is_main=False,
                )
        self._histories(people, happened, at, person, row, end, rng)
        renewed = people.on[:, at] & (month - self._prescribed[:, person] >= _RENEWED_AFTER_MONTHS)
        for drug in range(len(self._world.drugs)):
            of = np.flatnonzero(renewed[drug] | happened.started[drug, at])
            self._prescribed[drug, person[of]] = month
            self.record.prescriptions.add(
                person=person[of], encounter=row[of], drug=np.full(len(of), drug), time=end[of]
            )

    def _histories(self, people, happened, at, person, row, end, rng) -> None:
        """At the first occasion on record, what is known already is copied in, with a date that somebody remembers."""
        new = np.flatnonzero(~self._is_written[person])
        self._is_written[person[new]] = True
        for condition, name in enumerate(self._world.conditions):
            if "code" not in (one := self._world.raw["conditions"][name]) or (
                "stay" in one and one.get("passes", False)
            ):
                continue
            of = new[people.known[condition, at[new]] & ~happened.found[condition, at[new]]]
            years = 0.5 + 9.5 * rng.random(len(of))
            onset = end[of] - (years * 365.25 * DAY_MINUTES).astype(np.int64)
            self.record.conditions.add(
                person=person[of], encounter=row[of], condition=condition, onset=onset, recorded=end[of], is_main=False
            )

    def _order(self, number, order, people, happened, at, person, row, time, rng) -> None:
        if "procedure" in order or "vaccine" in order:
            self.record.done.add(person=person, encounter=row, order=np.full(len(at), number), time=time)
        values = {name: self._value(name, people, happened, at, person, rng) for name in order.get("results", [])}
        second = values.pop("dbp", np.nan)
        for result, value in values.items():
            self._result(result, value, person, row, time, number, rng, second=second if result == "sbp" else np.nan)

    def _value(self, result, people, happened, at, person, rng):
        """One result of each, in the unit of measurements.toml."""
        one = self._world.raw["measurements"][result]
        offset = np.array([site["offset"] for site in self._world.raw["care"]["sites"]])[people.site[at]]
        if one.get("formula") == "smoking":
            has = lambda name: people.has[self._world.conditions.index(name), at]  # noqa: E731
            return np.where(has("smokes"), 2, np.where(has("ex_smoker"), 1, 0))
        state = self._world.states.index(one["of"])
        is_own = one.get("formula") in (None, "exponential", "weight", "creatinine")
        error = happened.error[state, at] if is_own else rng.standard_normal(len(at))
        level = measured_level(people.level[state, at], error + 0.2 * offset, one)
        return _formula(self._world, one.get("formula"), level, people, at, self.height[people.is_male[at], person])

    def _result(self, result, value, person, row, time, order, rng, hours=None, second=np.nan) -> None:
        one = self._world.raw["measurements"][result]
        hours = one.get("hours", 0) if hours is None else hours
        waited = hours * 60 * np.exp(_SPREAD_OF_HOURS * rng.standard_normal(len(person)))
        self.record.results.add(
            person=person, encounter=row, result=np.full(len(person), self._world.results.index(result)), value=value,
            second=second, time=time, issued=time + waited.astype(np.int64), order=np.full(len(person), order),
        )  # fmt: skip

    def _rounds(self, stays: StayPaths, stay_of, person, row, begin, people, rng) -> None:
        """Vital signs every six hours, later every twelve, every three in the very ill; blood at the door and each second morning."""
        tables = [self._world.raw["stays"][name] for name in self._world.stays]
        lungs, heart, fever = (
            np.array([one.get(k, 0.4 if k != "fever" else 0) for one in tables])[stays.kind]
            for k in ("lungs", "heart", "fever")
        )
        hour = np.arange(stays.severity.shape[1])
        usual = np.where(hour < 24, hour % 6 == 0, hour % 12 == 0)
        is_round = (usual | ((stays.severity > 1.9) & (hour % 3 == 0))) & (
            hour[None, :] < np.maximum(stays.hours, 1)[:, None]
        )
        stay, at_hour = np.nonzero(is_round)
        ill = np.maximum(stays.severity[stay, at_hour], -0.5)
        noise = rng.standard_normal((len(_LOWEST), len(stay)))
        level = {
            name: people.level[self._world.states.index(name), stay_of[stay]] for name in ("sbp", "dbp", "heart_rate")
        }
        values = {
            "heart_rate": level["heart_rate"] + 5 + 7.5 * ill * np.maximum(heart[stay], 0.5) + 9 * noise[0],
            "respiratory_rate": 16 + 2.3 * ill * lungs[stay] + 0.6 * ill + 2.0 * noise[1],
            "sbp": level["sbp"] + 6 - 7.5 * np.maximum(ill, 0) * heart[stay] + 13 * noise[2],
            "dbp": level["dbp"] - 3.0 * np.maximum(ill, 0) * heart[stay] + 8 * noise[3],
            "oxygen_saturation": np.minimum(96.8 - 1.5 * np.maximum(ill, 0) * lungs[stay] + 1.5 * noise[4], 100),
            "temperature": 36.4 + fever[stay] * np.maximum(ill, 0) + 0.4 * noise[5],
        }
        time = begin[stay] + at_hour * 60 + rng.integers(0, 40, len(stay))
        values = {name: np.maximum(value, _LOWEST[name]) for name, value in values.items()}
        diastolic = values.pop("dbp")
        for name, value in values.items():
            second = diastolic if name == "sbp" else np.nan
            self._result(name, value, person[stay], row[stay], time, -1, rng, hours=0, second=second)
        is_draw = ((hour == 0) | (((hour + stays.admitted_at[:, None]) % 48 == 6) & (hour > 6))) & (
            hour[None, :] < np.maximum(stays.hours, 1)[:, None]
        )
        stay, at_hour = np.nonzero(is_draw)
        ill = np.maximum(stays.severity[stay, at_hour], 0)
        worse = {
            "creatinine": 1 + 0.16 * ill,
            "sodium": 1 - 0.004 * ill,
            "haemoglobin": 1 - 0.02 * ill,
            "leucocytes": 1 + (0.12 + 0.3 * fever[stay]) * ill,
            "platelets": 1 - 0.04 * ill,
            "potassium": 1 + 0.015 * ill,
        }
        time = begin[stay] + at_hour * 60 + rng.integers(10, 50, len(stay))
        for name in _STAY_LABORATORY:
            one = self._world.raw["measurements"][name]
            state = self._world.states.index(one["of"])
            level = measured_level(people.level[state, stay_of[stay]], rng.standard_normal(len(stay)), one)
            value = _formula(self._world, one.get("formula"), level, people, stay_of[stay], None) * worse[name]
            self._result(name, value, person[stay], row[stay], time, -1, rng, hours=1.2)
        crp = np.flatnonzero(rng.random(len(stay)) < 0.6)
        base = people.level[self._world.states.index("lncrp"), stay_of[stay[crp]]]
        value = np.exp(
            np.minimum(base + 1.3 * ill[crp] + 1.2 * fever[stay[crp]] + 0.35 * rng.standard_normal(len(crp)), 6.2)
        )
        self._result("crp", value, person[stay[crp]], row[stay[crp]], time[crp], -1, rng, hours=1.2)
        severe = np.flatnonzero(ill + 0.6 * rng.standard_normal(len(stay)) > 1.5)
        value = 1.1 * np.exp(0.38 * ill[severe] + 0.2 * rng.standard_normal(len(severe)))
        self._result("lactate", value, person[stay[severe]], row[stay[severe]], time[severe], -1, rng)


def _formula(world: World, formula: str | None, level, people: People, at, height):
    """A result that is not the state's level itself."""
    if formula is None:
        return level
    if formula == "exponential":
        return np.exp(level)
    if formula == "weight":
        return level * (height / 100) ** 2
    if formula == "glucose":  # the average glucose that an HbA1c stands for (ADAG)
        return np.maximum(28.7 * level - 46.7, 45)
    if formula == "creatinine":  # the CKD-EPI 2021 equation turned round
        return creatinine_of(level, people.age[at], people.is_male[at])
    if formula == "total_cholesterol":
        hdl, lntg = (people.level[world.states.index(name), at] for name in ("hdl", "lntg"))
        return level + hdl + np.exp(lntg) / 5
    if formula == "nt_probnp":
        failing = people.has[world.conditions.index("heart_failure"), at]
        return np.exp(4.2 + 0.035 * (people.age[at] - 50) + 0.05 * np.maximum(60 - level, 0) + 1.3 * failing)
    raise ValueError(f"measurements.toml names a formula that nobody wrote: {formula}")


def creatinine_of(egfr, age, is_male):
    """Creatinine (mg/dL) of an eGFR (mL/min/1.73 m2); Inker, N Engl J Med 2021;385:1737-49, solved for creatinine."""
    kappa = np.where(is_male == 1, 0.9, 0.7)
    alpha = np.where(is_male == 1, -0.302, -0.241)
    at_kappa = 142 * 0.9938**age * np.where(is_male == 1, 1.0, 1.012)
    ratio = np.maximum(egfr, 2) / at_kappa
    return kappa * np.where(ratio < 1, ratio ** (-1 / 1.2), ratio ** (1 / alpha))


def _heights(world: World, normal):
    """(2, people): cm as a woman, as a man."""
    return np.stack(
        [
            world.raw["care"]["height"][sex][0] + world.raw["care"]["height"][sex][1] * normal[i]
            for i, sex in enumerate(("female", "male"))
        ]
    )


def _minutes(rng: np.random.Generator, part: tuple[float, float], n: int) -> Ints:
    return (MONTH_MINUTES * rng.uniform(*part, n)).astype(np.int64)
