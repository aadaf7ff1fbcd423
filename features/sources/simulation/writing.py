"""A block's record as FHIR R4 resources, one JSON text each: the codes and values of every row, in the shape of its type."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.simulation.hazards import Ints
from features.sources.simulation.record import DOCTORS, Recorder, Table
from features.sources.simulation.shapes import Code, coded, json_of, names_in, shape_codes, written
from features.sources.simulation.world import World

SNOMED, LOINC, ICD_10 = "http://snomed.info/sct", "http://loinc.org", "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM, CVX = "http://www.nlm.nih.gov/research/umls/rxnorm", "http://hl7.org/fhir/sid/cvx"
KINDS = "Patient Encounter Observation Condition MedicationRequest Procedure Immunization DiagnosticReport".split()
_KNOWN_FROM = ("issued", "recorded", "time", "start")  # the first of these columns that a type has
_STATUS_UNTIL = {"Encounter": "end", "Condition": "abatement"}


class Texts(NamedTuple):
    """Resources of one type: the number of the person each belongs to, and their JSON."""

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
    organizations = (written("Organization", {"site": site}, {"number": [str(i)]}) for i, site in enumerate(sites))
    doctors = [f"{site}-{doctor}" for site in range(len(sites)) for doctor in range(DOCTORS)]
    return {
        "Organization": [line for lines in organizations for line in lines],
        "Practitioner": list(written("Practitioner", {}, {"id": _doctors(world), "number": doctors})),
    }


def write_block(world: World, recorder: Recorder, uuids: list[str], until: int) -> dict[str, Texts]:
    """All resources of a block by type; `uuids` begin the ids of its first people, and nobody else is written.

    What is known only after the minute `until` does not exist yet.
    """
    people = {name: column[: len(uuids)] for name, column in recorder.people.items()}
    whole = {"Patient": people} | {kind: rows.done() for kind, rows in recorder.rows.items()}
    visits = whole["Encounter"]
    has_begun = (visits["patient"] < len(uuids)) & (visits["start"] <= until)
    writer = _Writer(world, until)
    tables = {}
    for kind, table in whole.items():
        exists = np.ones(len(uuids), bool) if kind == "Patient" else has_begun
        if "encounter" in table:
            exists = has_begun[table["encounter"]]
            exists &= next(table[name] for name in _KNOWN_FROM if name in table) <= until
        numbers = (
            np.zeros(len(uuids), np.int64)
            if kind == "Patient"
            else np.flatnonzero(exists)
            if kind == "Encounter"
            else np.arange(exists.sum())
        )
        tables[kind] = _take(table, exists)
        tables[kind]["id"] = _ids(kind, tables[kind]["patient"], numbers, uuids)
        writer.ids[kind] = np.full(len(exists) + 1, None, object)  # the last, of the place -1, for none
        writer.ids[kind][:-1][exists] = tables[kind]["id"]
    born = writer.begin.astype("datetime64[D]") - np.floor(people["days"]).astype("timedelta64[D]")
    tables["Patient"] |= {"name": _objects(uuid[:6] for uuid in uuids), "born": _objects(born.astype(str).tolist())}
    tables["DiagnosticReport"] = _reports(world, tables["Observation"])
    tables["DiagnosticReport"]["id"] = _ids(
        "DiagnosticReport",
        tables["DiagnosticReport"]["patient"],
        np.arange(len(tables["DiagnosticReport"]["patient"])),
        uuids,
    )
    latest = {
        both: row
        for row, both in enumerate(
            zip(tables["MedicationRequest"]["patient"], tables["MedicationRequest"]["code"], strict=True)
        )
    }
    tables["MedicationRequest"]["status"] = np.isin(
        np.arange(len(tables["MedicationRequest"]["code"])), list(latest.values())
    )
    return {kind: Texts(tables[kind]["patient"], writer.lines(kind, tables[kind])) for kind in KINDS}


class _Writer:
    """ids: of the rows of each type that others refer to, None for those that do not exist."""

    def __init__(self, world: World, until: int) -> None:
        self.begin = np.datetime64(world.raw["care"]["population"]["records_begin"], "m")
        self.until, self.codes = until, _codes(world)
        self.ids = {"Practitioner": _objects(_doctors(world))}

    def lines(self, kind: str, table: Table) -> list[str]:
        """One resource a row. Codes are chosen by place, -1 none."""
        if kind in _STATUS_UNTIL:
            table["status"] = table[_STATUS_UNTIL[kind]] <= self.until
        if kind == "Encounter":
            table["disposition"] = np.where(table["status"], table["disposition"], -1)
        codes, places = (sorted(names & table.keys()) for names in names_in(kind))
        own = {name: self._own(name, table) for name in places}
        choices = {name: [*self.codes[kind][name], None] for name in codes}
        lines = np.full(len(table["patient"]), None, object)
        for rows in _grouped([*(table[n] for n in codes), *(np.equal(column, None) for column in own.values())]):
            chosen = {name: choices[name][int(table[name][rows[0]])] for name in codes}
            there = {name: column[rows] for name, column in own.items() if column[rows[0]] is not None}
            lines[rows] = list(written(kind, chosen, there))
        return lines.tolist()

    def _own(self, name: str, table: Table) -> npt.NDArray:
        """What each row has of its own, None for nothing: an id, a number, a time that has come, or a text."""
        column, kind = table[name], name.capitalize()
        if kind in self.ids:
            return self.ids[kind][column]
        if column.dtype == object:
            return column
        text, is_number = np.full(len(column), None, object), column.dtype == float
        is_given = np.isfinite(column) if is_number else column <= self.until
        if is_number:
            both = zip(column[is_given].tolist(), table["decimals"][is_given].tolist(), strict=True)
            text[is_given] = _objects(f"{value:.{decimals}f}" for value, decimals in both)
        else:
            text[is_given] = np.datetime_as_string(self.begin + column[is_given].astype("timedelta64[m]"), unit="s")
        return text


def _reports(world: World, results: Table) -> Table:
    """A row for each panel of an occasion, with those of its results that are there."""
    has_panel = np.array(
        [*("panel" in world.raw["orders"][name] for name in world.orders), False]
    )  # the last: no order
    rows = np.flatnonzero(has_panel[results["order"]])
    groups = [rows[group] for group in _grouped([results["order"][rows], results["encounter"][rows]])]
    table = _take(results, np.array([group[0] for group in groups], np.int64))
    references = ([{"reference": f"Observation/{one}"} for one in results["id"][group]] for group in groups)
    issued = np.array([results["issued"][group].max() for group in groups], np.int64)
    return table | {"code": table["order"], "issued": issued, "results": _objects(json_of(one) for one in references)}


def _codes(world: World) -> dict[str, dict[str, list[Code]]]:
    """The codes that the rows of each type choose from."""
    raw, shapes = world.raw, shape_codes()
    orders, conditions = [raw["orders"][n] for n in world.orders], [raw["conditions"][n] for n in world.conditions]

    def of(system: str, tables: Iterable[dict], name: str = "code") -> list[Code]:
        return [coded(system, *one[name]) if name in one else None for one in tables]

    omb, results = "urn:oid:2.16.840.1.113883.6.238", []
    for name, one in raw["measurements"].items():
        more = {"category": one["category"], "profile": shapes["profiles"][one["category"]]}
        results += [coded(LOINC, *code) | more | {"unit": code[2]} for code in shapes["panels"].get(name, one["codes"])]
    races = [coded(omb, code, name) for code, (name, _) in raw["care"]["population"]["race"].items()]
    tables: dict[str, dict[str, list[Code]]] = {
        "Patient": {"race": [*races], "site": _sites(world)},
        "Encounter": {"reason": of(SNOMED, (raw["stays"][n] for n in world.stays), "reason"), "site": _sites(world)},
        "Observation": {"code": [*results]},
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


def _doctors(world: World) -> list[str]:
    sites = range(len(world.raw["care"]["sites"]))
    return [_uuid(f"practitioner {site} {doctor}") for site in sites for doctor in range(DOCTORS)]


def _ids(kind: str, persons: Ints, numbers: Ints, uuids: list[str]) -> npt.NDArray:
    both = zip(persons.tolist(), numbers.tolist(), strict=True)
    return _objects(f"{uuids[person]}{KINDS.index(kind):x}{number:011x}" for person, number in both)


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


def _objects(values: Iterable[str]) -> npt.NDArray:
    return np.array(list(values), object)
