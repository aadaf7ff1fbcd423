"""A block's record as FHIR R4, one JSON text a resource: the codes and values of every row, in the shape of its type."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.fhir_shapes import Code, Shape, coded, json_of
from features.sources.simulation.record import DOCTORS, NEVER, Recorder, Table
from features.sources.simulation.world import Ints, World

SHAPES = {path.stem: Shape(path) for path in (Path(__file__).parent / "shapes").glob("*.json")}
CODES = tomllib.loads((Path(__file__).parent / "shapes" / "codes.toml").read_text())
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
    sites, organization = _sites(world), SHAPES["Organization"]
    doctors = [f"{site}-{doctor}" for site in range(len(sites)) for doctor in range(DOCTORS)]
    return {
        "Organization": [next(organization.filled({"site": site}, {"id": [site["code"]]})) for site in sites],
        "Practitioner": list(SHAPES["Practitioner"].filled({}, {"id": _doctors(world), "number": doctors})),
    }


def write_block(world: World, recorder: Recorder, uuids: list[str], until: int) -> dict[str, Texts]:
    """All resources of a block by type; `uuids` begin the ids of its first people, and nobody else is written.

    What is known only after the minute `until` does not exist yet.
    """
    whole = {"Patient": recorder.people} | {kind: rows.done() for kind, rows in recorder.rows.items()}
    tables, ids = {}, {"Practitioner": _objects(_doctors(world))}
    for kind, table in whole.items():
        known = next((table[name] for name in _KNOWN_FROM if name in table), np.zeros(len(table["patient"])))
        number = np.flatnonzero((table["patient"] < len(uuids)) & (known <= until))
        tables[kind] = {name: column[number] for name, column in table.items()}
        ids[kind] = np.full(len(known) + 1, None, object)  # the last, for the place -1, is none
        ids[kind][number] = tables[kind]["id"] = _ids(kind, table["patient"][number], number, uuids)
    people, conditions = tables["Patient"], tables["Condition"]
    begin = np.datetime64(world.raw["care"]["population"]["records_begin"], "D")
    born = begin - np.floor(people["days"]).astype("timedelta64[D]")
    people |= {"name": _objects(uuid[:6] for uuid in uuids), "born": _objects(born.astype(str).tolist())}
    conditions["abatement"][conditions["abatement"] > people["died"][conditions["patient"]]] = NEVER
    tables["DiagnosticReport"] = _reports(world, tables["Observation"], uuids)
    for kind, ending in _STATUS_UNTIL.items():
        tables[kind]["status"] = tables[kind][ending] <= until
    tables["Encounter"]["disposition"][~tables["Encounter"]["status"]] = -1
    codes, texts = _codes(world), {}
    for kind in KINDS:
        shape, table = SHAPES[kind], tables[kind]
        own = {name: _own(name, table, ids, begin, until) for name in shape.places & table.keys()}
        texts[kind] = Texts(table["patient"], _lines(shape, table, codes[kind], own))
    return texts


def _lines(shape: Shape, table: Table, codes: dict[str, list[Code]], own: dict[str, npt.NDArray]) -> list[str]:
    """One resource a row. Codes are chosen by place, -1 none; what is None in `own` is left out."""
    named = sorted(shape.codes & table.keys())
    lines = np.full(len(table["patient"]), None, object)
    for rows in _grouped([*(table[name] for name in named), *(np.equal(column, None) for column in own.values())]):
        chosen = {name: [*codes[name], None][int(table[name][rows[0]])] for name in named}
        given = {name: column[rows] for name, column in own.items() if column[rows[0]] is not None}
        lines[rows] = list(shape.filled(chosen, given))
    return lines.tolist()


def _own(name: str, table: Table, ids: dict[str, npt.NDArray], begin: np.datetime64, until: int) -> npt.NDArray:
    """What each row has of its own, None for nothing: an id, a text, a number, or a time that has come."""
    column, kind = table[name], name.capitalize()
    if kind in ids:
        return ids[kind][column]
    if column.dtype == object:
        return column
    text = np.full(len(column), None, object)
    given = np.flatnonzero(np.isfinite(column) if column.dtype == float else column <= until)
    if column.dtype == float:
        both = zip(column[given].tolist(), table["decimals"][given].tolist(), strict=True)
        text[given] = [f"{value:.{decimals}f}" for value, decimals in both]
    else:
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
    issued = np.array([results["issued"][group].max() for group in groups], np.int64)
    table |= {"code": table["order"], "issued": issued, "results": _objects(json_of(one) for one in references)}
    return table | {"id": _ids("DiagnosticReport", table["patient"], first, uuids)}


def _codes(world: World) -> dict[str, dict[str, list[Code]]]:
    """The codes that the rows of each type choose from: shapes/codes.toml, and the tables that it points to."""

    def listed(one: str | list[str] | dict[str, str]) -> list[Code]:
        if isinstance(one, dict):
            rows = (world.raw[one["table"]][name] for name in getattr(world, one["names"]))
            return [coded(one["system"], *row[one["key"]]) if one["key"] in row else None for row in rows]
        return [coded(*one) if isinstance(one, list) else one]

    codes: dict[str, dict[str, list[Code]]] = {
        kind: {name: [code for one in entry for code in listed(one)] for name, entry in CODES.get(kind, {}).items()}
        for kind in KINDS
    }
    codes["Observation"]["code"] = []
    for name, one in world.raw["measurements"].items():
        more = {"category": one["category"], "profile": CODES["profiles"][one["category"]]}
        for code in CODES["panels"].get(name, one["codes"]):
            codes["Observation"]["code"].append(coded("http://loinc.org", *code) | more | {"unit": code[2]})
    races = world.raw["care"]["population"]["race"]
    codes["Patient"]["race"] = [
        coded("urn:oid:2.16.840.1.113883.6.238", code, name) for code, (name, _) in races.items()
    ]
    codes["Patient"]["site"] = codes["Encounter"]["site"] = [*_sites(world)]
    return codes


def _sites(world: World) -> list[dict[str, str]]:
    sites = [(_uuid(f"organization {i}"), f"0{1000 + i}", one) for i, one in enumerate(world.raw["care"]["sites"])]
    more = ({"city": one["city"], "postal_code": postal_code} for _, postal_code, one in sites)
    return [coded("", identity, one["name"]) | rest for (identity, _, one), rest in zip(sites, more, strict=True)]


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
