"""A block's record as FHIR R4 resources, one JSON text each: which codes, and which values, go into which shape."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.sources.simulation.record import DAY_MINUTES, INPATIENT, NEVER, Record
from features.sources.simulation.shapes import Code, coded, json_of, names_in, shape_codes, written
from features.sources.simulation.hazards import Ints
from features.sources.simulation.world import World

SNOMED, LOINC, ICD_10 = "http://snomed.info/sct", "http://loinc.org", "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM, CVX = "http://www.nlm.nih.gov/research/umls/rxnorm", "http://hl7.org/fhir/sid/cvx"
_KINDS = "Patient Encounter Observation Condition MedicationRequest Procedure Immunization DiagnosticReport".split()
_DOCTORS = 6  # a site
_PASSING = ("pneumonia", "sepsis", "hip_fracture", "copd_exacerbation")
_PASSING_DAYS = 60  # after which an acute illness is written off

Table = dict[str, npt.NDArray]


@dataclass(frozen=True)
class Texts:
    """Resources of one type: their JSON, and the number of the person each belongs to."""

    persons: Ints
    lines: list[str]


def patient_id(seed: int, block: int, number: int) -> str:
    """The id of one person's Patient resource."""
    return f"{person_uuid(seed, block, number)}{0:012x}"


def person_uuid(seed: int, block: int, number: int) -> str:
    """The first twenty hexadecimal digits of all ids of one person's resources, as a UUID begins."""
    return _uuid(f"{seed} {block} {number}", 10)


def shared_resources(world: World) -> dict[str, list[str]]:
    """The Organization and Practitioner resources, which belong to no patient."""
    sites = _sites(world)
    doctors = [f"{site}-{doctor}" for site in range(len(sites)) for doctor in range(_DOCTORS)]
    ids = _doctors(len(sites)).ravel()
    return {
        "Organization": [
            line for n, site in enumerate(sites) for line in written("Organization", {"site": site}, {"number": str(n)})
        ],
        "Practitioner": list(written("Practitioner", {}, {"id": ids, "number": doctors})),
    }


def write_block(world: World, record: Record, uuids: list[str], until: int) -> dict[str, Texts]:
    """All resources of a block by type; `uuids` begin the ids of its first people, and nobody else is written.

    What is known only after the minute `until` does not exist yet.
    """
    writer = _Writer(world, record, uuids, until)
    conditions, observations = writer.conditions(), writer.observations()  # others refer to these
    return {
        "Patient": writer.patients(),
        "Encounter": writer.encounters(),
        "Observation": observations,
        "Condition": conditions,
        "MedicationRequest": writer.prescriptions(),
        "Procedure": writer.done("Procedure"),
        "Immunization": writer.done("Immunization"),
        "DiagnosticReport": writer.reports(),
    }


class _Writer:
    """Tables of what is known by `until`, and the ids that their rows refer to."""

    def __init__(self, world: World, record: Record, uuids: list[str], until: int) -> None:
        self.world, self.uuids, self.until, self.codes = world, uuids, until, _codes(world)
        self.begin = np.datetime64(world.raw["care"]["population"]["records_begin"], "m")
        self.people = {name: column[: len(uuids)] for name, column in record.people.items()}
        self.patient_ids = _texts(f"{uuid}{0:012x}" for uuid in uuids)
        visits = record.encounters.done()
        exists = (visits["person"] < len(uuids)) & (visits["start"] <= until)
        self.visits = _take(visits | {"encounter": np.arange(len(exists))}, exists)
        self.visit_ids, self.main_conditions = np.full((2, len(exists)), None, object)
        self.visit_ids[exists] = self._ids("Encounter", self.visits["person"], self.visits["encounter"])
        tables = {name: getattr(record, name).done() for name in ("results", "conditions", "prescriptions", "done")}
        known = {"results": "issued", "conditions": "recorded", "prescriptions": "time", "done": "time"}
        self.tables = {
            name: _take(table, exists[table["encounter"]] & (table[known[name]] <= until))
            for name, table in tables.items()
        }

    def patients(self) -> Texts:
        born = self.begin.astype("datetime64[D]") - np.floor(self.people["days"]).astype("timedelta64[D]")
        own = {
            "id": self.patient_ids,
            "name": _texts(uuid[:6] for uuid in self.uuids),
            "born": _texts(born.astype(str)),
        }
        return self._texts("Patient", self.people | own | {"person": np.arange(len(self.uuids))})

    def encounters(self) -> Texts:
        table, person, kind = self.visits, self.visits["person"], self.visits["kind"]
        visit_type = 2 + (table["encounter"] * 7 + person) % (len(self.codes["Encounter"]["type"]) - 2)
        is_over, is_stay = table["end"] <= self.until, kind == INPATIENT
        own = {
            "id": self.visit_ids[table["encounter"]],
            "patient": self.patient_ids[person],
            "practitioner": self._doctors(person, kind),
            "main_condition": self.main_conditions[table["encounter"]],
            "site": self.people["site"][person],
            "status": is_over,
            "type": np.where(kind == 0, visit_type, 2 - kind),
            "priority": np.where(is_stay, table["is_planned"], -1),
            "disposition": np.where(is_stay & is_over, table["disposition"], -1),
        }
        return self._texts("Encounter", table | own)

    def observations(self) -> Texts:
        table, measurements = self.tables["results"], [self.world.raw["measurements"][n] for n in self.world.results]
        first = np.cumsum([0] + [len(one["codes"]) for one in measurements])
        spelling = self.world.of_sites("spelling")[self.people["site"][table["person"]]].astype(np.int64)
        value, systolic, diastolic = np.full((3, len(spelling)), None, object)
        for number, one in enumerate(measurements):
            rows = np.flatnonzero(table["result"] == number)
            value[rows] = _texts(f"{number:.{one['decimals']}f}" for number in table["value"][rows].tolist())
        is_pressure = table["result"] == self.world.results.index("sbp")
        is_answer = table["result"] == self.world.results.index("smoking")
        systolic[is_pressure] = value[is_pressure]
        diastolic[is_pressure] = _texts(f"{number:.0f}" for number in table["second"][is_pressure].tolist())
        value[is_pressure | is_answer] = None
        own = self._about("Observation", table) | {
            "code": np.minimum(first[table["result"]] + spelling, first[table["result"] + 1] - 1),
            "value": value,
            "systolic": systolic,
            "diastolic": diastolic,
            "answer": np.where(is_answer, table["value"], -1).astype(np.int64),
        }
        self.observation_ids = own["id"]
        return self._texts("Observation", table | own)

    def reports(self) -> Texts:
        """Each panel of an occasion, with those of its results that are there."""
        results = self.tables["results"]
        has_panel = np.array([code is not None for code in self.codes["DiagnosticReport"]["code"]] + [False])
        rows = np.flatnonzero(has_panel[results["order"]])  # order is -1 where none asked for the result
        groups = [rows[group] for group in _grouped([results["order"][rows], results["encounter"][rows]])]
        table = _take(results, np.array([group[0] for group in groups], np.int64))
        table |= self._about("DiagnosticReport", table) | {
            "code": table["order"],
            "issued": np.array([results["issued"][group].max() for group in groups], np.int64),
            "results": _texts(_references("Observation", self.observation_ids[group]) for group in groups),
        }
        return self._texts("DiagnosticReport", table)

    def conditions(self) -> Texts:
        table, conditions = self.tables["conditions"], self.world.conditions
        is_icd = self.world.of_sites("icd")[self.people["site"][table["person"]]] > 0
        is_passing = np.isin(table["condition"], [conditions.index(name) for name in _PASSING]) & table["is_main"]
        abatement = np.where(is_passing, table["onset"] + _PASSING_DAYS * DAY_MINUTES, NEVER)
        own = self._about("Condition", table) | {
            "code": table["condition"] + is_icd * len(conditions),
            "category": table["is_main"],
            "abatement": abatement,
            "status": abatement <= self.until,
        }
        self.main_conditions[table["encounter"][table["is_main"]]] = own["id"][table["is_main"]]
        return self._texts("Condition", table | own)

    def prescriptions(self) -> Texts:
        table = self.tables["prescriptions"]
        latest = {both: row for row, both in enumerate(zip(table["person"], table["drug"], strict=True))}
        own = self._about("MedicationRequest", table) | {"practitioner": self._doctors(table["person"], 0)}
        status = np.isin(np.arange(len(table["drug"])), list(latest.values()))
        return self._texts("MedicationRequest", table | own | {"code": table["drug"], "status": status})

    def done(self, kind: str) -> Texts:
        """Procedures, or Immunizations."""
        is_so = np.array([code is not None for code in self.codes[kind]["code"]])
        table = _take(self.tables["done"], is_so[self.tables["done"]["order"]])
        own = {"code": table["order"], "end": table["time"] + 15}
        return self._texts(kind, table | self._about(kind, table) | own)

    def _texts(self, kind: str, table: Table) -> Texts:
        """One resource a row. Codes are chosen by number, -1 none; minutes become times, after `until` none."""
        codes, places = (sorted(names & table.keys()) for names in names_in(kind))
        own = {name: self._times(table[name]) if table[name].dtype == np.int64 else table[name] for name in places}
        choices = {name: [*self.codes[kind][name], None] for name in codes}
        lines = np.full(len(table["person"]), None, object)
        for rows in _grouped([*(table[n] for n in codes), *(np.equal(column, None) for column in own.values())]):
            chosen = {name: choices[name][int(table[name][rows[0]])] for name in codes}
            there = {name: column[rows] for name, column in own.items() if column[rows[0]] is not None}
            lines[rows] = list(written(kind, chosen, there))
        return Texts(table["person"], lines.tolist())

    def _about(self, kind: str, table: Table) -> Table:
        ids = self._ids(kind, table["person"], np.arange(len(table["person"])))
        return {
            "id": ids,
            "patient": self.patient_ids[table["person"]],
            "encounter": self.visit_ids[table["encounter"]],
        }

    def _ids(self, kind: str, persons: Ints, numbers: Ints) -> npt.NDArray:
        place, both = f"{_KINDS.index(kind):x}", zip(persons.tolist(), numbers.tolist(), strict=True)
        return _texts(f"{self.uuids[person]}{place}{number:011x}" for person, number in both)

    def _doctors(self, persons: Ints, kinds: Ints | int) -> npt.NDArray:
        return _doctors(len(_sites(self.world)))[self.people["site"][persons], (persons + kinds) % _DOCTORS]

    def _times(self, minutes: Ints) -> npt.NDArray:
        is_known = minutes <= self.until
        times = self.begin + np.where(is_known, minutes, 0).astype("timedelta64[m]")
        return np.where(is_known, np.datetime_as_string(times, unit="s").astype(object), None)


def _codes(world: World) -> dict[str, dict[str, list[Code]]]:
    """The codes that the rows of each type choose from."""
    raw, shapes = world.raw, shape_codes()
    orders, conditions = [raw["orders"][n] for n in world.orders], [raw["conditions"][n] for n in world.conditions]

    def of(system: str, tables: Iterable[dict], name: str = "code") -> list[Code]:
        return [coded(system, *one[name]) if name in one else None for one in tables]

    races = [
        ("urn:oid:2.16.840.1.113883.6.238", code, name) for code, (name, _) in raw["care"]["population"]["race"].items()
    ]
    results: list[Code] = []
    for name, one in raw["measurements"].items():
        more = {"category": one["category"], "profile": shapes["profiles"][one["category"]]}
        spellings = shapes["panels"].get(name, one["codes"])
        results += [coded(LOINC, *code) | more | {"unit": code[2]} for code in spellings]
    tables: dict[str, dict[str, list[Code]]] = {
        "Patient": {"race": [coded(*race) for race in races], "site": _sites(world)},
        "Encounter": {"reason": of(SNOMED, (raw["stays"][n] for n in world.stays), "reason"), "site": _sites(world)},
        "Observation": {"code": results},
        "Condition": {"code": of(SNOMED, conditions) + of(ICD_10, conditions, "icd")},
        "MedicationRequest": {"code": of(RXNORM, (raw["treatments"][n] for n in world.drugs))},
        "Procedure": {"code": of(SNOMED, orders, "procedure")},
        "Immunization": {"code": of(CVX, orders, "vaccine")},
        "DiagnosticReport": {"code": of(LOINC, orders, "panel")},
    }
    for kind, table in tables.items():
        for name, codes in shapes.get(kind, {}).items():
            table[name] = [coded(*code) if isinstance(code, list) else code for code in codes]
    return tables


def _sites(world: World) -> list[Code]:
    return [
        coded("urn:sequela:simulation", _uuid(f"organization {number}"), site["name"])
        | {"city": site["city"], "postal_code": f"0{1000 + number}"}
        for number, site in enumerate(world.raw["care"]["sites"])
    ]


def _doctors(sites: int) -> npt.NDArray:
    """(sites, doctors): the ids of Practitioners."""
    return np.array(
        [[_uuid(f"practitioner {site} {doctor}") for doctor in range(_DOCTORS)] for site in range(sites)], object
    )


def _references(kind: str, ids: Iterable[str]) -> str:
    return json_of([{"reference": f"{kind}/{one}"} for one in ids])


def _uuid(name: str, size: int = 16) -> str:
    """The first `size` bytes of a UUID for what is called so, with the hyphens of a whole one."""
    digits = hashlib.blake2b(f"simulated {name}".encode(), digest_size=size).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _grouped(keys: Sequence[npt.NDArray]) -> Iterator[Ints]:
    """The rows that agree in all keys, group after group."""
    together = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        together = together * (int(key.max(initial=0)) + 2) + key + 1
    order = np.argsort(together, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(together[order])) + 1) if len(order) else []


def _take(table: Table, rows: npt.NDArray) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _texts(values: Iterable[str]) -> npt.NDArray:
    return np.array(list(values), object)
