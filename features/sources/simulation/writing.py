"""A block's record as FHIR R4 resources, one JSON text each: the codes and values of every row, in the shape of its type."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.simulation.hazards import Ints
from features.sources.simulation.record import DOCTORS, NEVER, Recorder, Table
from features.sources.simulation.shapes import SHAPE_CODES, Code, coded, json_of, names_in, written
from features.sources.simulation.world import World

KINDS = "Patient Encounter Observation Condition MedicationRequest Procedure Immunization DiagnosticReport".split()
_KNOWN_FROM = ("issued", "recorded", "time", "start")  # the first of these columns that a type has
_STATUS_UNTIL = {"Encounter": "end", "Condition": "abatement", "MedicationRequest": "end"}


class Texts(NamedTuple):
    """Resources of one type: the number of the person each belongs to, and their JSON."""

    persons: Ints
    lines: list[str]


def patient_id(seed: int, block: int, number: int) -> str:
    """The id of one person's Patient resource."""
    return f"{person_uuid(seed, block, number)}{number:012x}"


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
    whole, tables = {"Patient": recorder.people} | {kind: rows.done() for kind, rows in recorder.rows.items()}, {}
    ids = {"Practitioner": _objects(_doctors(world))}
    for kind, table in whole.items():
        known = next((table[name] for name in _KNOWN_FROM if name in table), np.zeros(len(table["patient"])))
        number = np.flatnonzero((table["patient"] < len(uuids)) & (known <= until))
        tables[kind] = {name: column[number] for name, column in table.items()}
        ids[kind] = np.full(len(known) + 1, None, object)  # the last, for the place -1, is none
        ids[kind][number] = tables[kind]["id"] = _ids(kind, table["patient"][number], number, uuids)
    begin = np.datetime64(world.raw["care"]["population"]["records_begin"], "D")
    born = begin - np.floor(tables["Patient"]["days"]).astype("timedelta64[D]")
    tables["Patient"] |= {"name": _objects(uuid[:6] for uuid in uuids), "born": _objects(born.astype(str).tolist())}
    conditions = tables["Condition"]
    conditions["abatement"][conditions["abatement"] > recorder.people["died"][conditions["patient"]]] = NEVER
    tables["DiagnosticReport"] = _reports(world, tables["Observation"], uuids)
    for kind, ending in _STATUS_UNTIL.items():
        tables[kind]["status"] = tables[kind][ending] <= until
    tables["Encounter"]["disposition"][~tables["Encounter"]["status"]] = -1
    codes = _codes(world)
    return {
        kind: Texts(tables[kind]["patient"], _lines(kind, tables[kind], codes[kind], ids, begin, until))
        for kind in KINDS
    }


def _lines(
    kind: str, table: Table, codes: dict, ids: dict[str, npt.NDArray], begin: np.datetime64, until: int
) -> list[str]:
    """One resource a row. Codes are chosen by place, -1 none."""
    named, places = (sorted(names & table.keys()) for names in names_in(kind))
    own = {name: _own(name, table, ids, begin, until) for name in places}
    lines = np.full(len(table["patient"]), None, object)
    for rows in _grouped([*(table[name] for name in named), *(np.equal(column, None) for column in own.values())]):
        chosen = {name: [*codes[name], None][int(table[name][rows[0]])] for name in named}
        given = {name: column[rows] for name, column in own.items() if column[rows[0]] is not None}
        lines[rows] = list(written(kind, chosen, given))
    return lines.tolist()


def _own(name: str, table: Table, ids: dict[str, npt.NDArray], begin: np.datetime64, until: int) -> npt.NDArray:
    """What each row has of its own, None for nothing: an id, a text, a number, or a time that has come."""
    column = table[name]
    if name.capitalize() in ids:
        return ids[name.capitalize()][column]
    if column.dtype == object:
        return column
    text = np.full(len(column), None, object)
    if column.dtype == float:
        given = np.flatnonzero(np.isfinite(column))
        both = zip(column[given].tolist(), table["decimals"][given].tolist(), strict=True)
        text[given] = [f"{value:.{decimals}f}" for value, decimals in both]
    else:
        given = np.flatnonzero(column <= until)
        times = begin.astype("datetime64[m]") + column[given].astype("timedelta64[m]")
        text[given] = np.datetime_as_string(times, unit="s")
    return text


def _reports(world: World, results: Table, uuids: list[str]) -> Table:
    """A row for each panel of an occasion, with those of its results that are there."""
    has_panel = np.array(
        [*("panel" in world.raw["orders"][name] for name in world.orders), False]
    )  # the last: no order
    rows = np.flatnonzero(has_panel[results["order"]])
    groups = [rows[group] for group in _grouped([results["order"][rows], results["encounter"][rows]])]
    first = np.array([group[0] for group in groups], np.int64)
    table = {name: column[first] for name, column in results.items()}
    references = ([{"reference": f"Observation/{one}"} for one in results["id"][group]] for group in groups)
    return table | {
        "id": _ids("DiagnosticReport", table["patient"], first, uuids),
        "code": table["order"],
        "issued": np.array([results["issued"][group].max() for group in groups], np.int64),
        "results": _objects(json_of(one) for one in references),
    }


def _codes(world: World) -> dict[str, dict[str, list[Code]]]:
    """The codes that the rows of each type choose from: those of shapes/codes.toml, and of the tables it points to."""
    raw = world.raw
    codes: dict[str, dict[str, list[Code]]] = {kind: {} for kind in KINDS}
    for kind, name, entry in ((kind, *item) for kind in KINDS for item in SHAPE_CODES.get(kind, {}).items()):
        codes[kind][name] = []
        for one in entry:
            if isinstance(one, dict):
                table = [raw[one["table"]][n] for n in getattr(world, one["names"])]
                codes[kind][name] += [
                    coded(one["system"], *row[one["key"]]) if one["key"] in row else None for row in table
                ]
            else:
                codes[kind][name].append(coded(*one) if isinstance(one, list) else one)
    for name, one in raw["measurements"].items():
        more = {"category": one["category"], "profile": SHAPE_CODES["profiles"][one["category"]]}
        spellings = SHAPE_CODES["panels"].get(name, one["codes"])
        codes["Observation"].setdefault("code", []).extend(
            coded("http://loinc.org", *code) | more | {"unit": code[2]} for code in spellings
        )
    omb = "urn:oid:2.16.840.1.113883.6.238"
    codes["Patient"]["race"] = [coded(omb, code, name) for code, (name, _) in raw["care"]["population"]["race"].items()]
    codes["Patient"]["site"] = codes["Encounter"]["site"] = [*_sites(world)]
    return codes


def _sites(world: World) -> list[dict[str, str]]:
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


def _objects(values: Iterable[str]) -> npt.NDArray:
    return np.array(list(values), object)
