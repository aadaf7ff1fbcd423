"""A block's record as FHIR R4, one JSON text a resource: the codes and values of a row, in the shape of its type."""

import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from features.sources.fhir_shapes import Code, Shape, coded, json_of, rows_alike
from features.sources.simulation.record import DOCTORS, NEVER, Recorder, Table
from features.sources.simulation.world import Ints, World

_FOLDER = Path(__file__).parent / "shapes"
SHAPES = {path.stem: Shape(path) for path in _FOLDER.glob("*.json")}
CODES = tomllib.loads((_FOLDER / "codes.toml").read_text())
KINDS = "Patient Encounter Observation Condition MedicationRequest Procedure Immunization DiagnosticReport".split()
_KNOWN_FROM = ("issued", "recorded", "done", "time", "start")  # the first of these columns that a type has
Texts = list[tuple[int, str]]  # resources of one type: the number of the person each belongs to, and their JSON
_STATUS_UNTIL = {"Encounter": "end", "Condition": "abatement", "MedicationRequest": "end"}


def patient_id(seed: int, block: int, number: int) -> str:
    """The id of one person's Patient resource."""
    return f"{_uuid(f'{seed} {block} {number}')[:24]}{number:012x}"


def shared_resources(world: World) -> list[tuple[str, str]]:
    """The Organization and Practitioner resources, which belong to no patient: type and JSON."""
    codes, organization = _codes(world), SHAPES["Organization"]
    sites, doctors = codes["Patient"]["site"], codes["Practitioner"]["id"]
    numbers = (f"{number // DOCTORS}-{number % DOCTORS}" for number in range(len(doctors)))
    lines = [("Organization", next(organization.filled({"site": site}, {"id": [site["code"]]}))) for site in sites]
    return lines + [
        ("Practitioner", one) for one in SHAPES["Practitioner"].filled({}, {"id": doctors, "number": numbers})
    ]


def write_block(world: World, recorder: Recorder, seed: int, block: int, wanted: int, until: int) -> dict[str, Texts]:
    """All resources of the first `wanted` people of a block, by type.

    What is known only after the minute `until` does not exist yet.
    """
    uuids = [patient_id(seed, block, number)[:24] for number in range(wanted)]  # what all ids of a person begin with
    begin = np.datetime64(world.begin, "D")
    whole = {"Patient": recorder.people} | {kind: rows.done() for kind, rows in recorder.rows.items()}
    for rows, minute in recorder.over:
        whole["Condition"]["abatement"][rows] = minute
    codes, texts = _codes(world), dict[str, Texts]()
    tables, ids = {}, {"Practitioner": _objects(codes["Practitioner"]["id"])}
    for kind, table in whole.items():
        known = next((table[name] for name in _KNOWN_FROM if name in table), np.zeros(len(table["patient"])))
        number = np.flatnonzero((table["patient"] < wanted) & (known <= until))
        tables[kind] = {name: column[number] for name, column in table.items()} | {"number": number}
        ids[kind] = np.full(len(known) + 1, None, object)  # the last, for the place -1, is none
        ids[kind][number] = tables[kind]["id"] = _ids(kind, table["patient"][number], number, uuids)
    people, conditions = tables["Patient"], tables["Condition"]
    born = begin - np.floor(people["days"]).astype("timedelta64[D]")
    people |= {"name": _objects(uuid[:6] for uuid in uuids), "born": _objects(born.astype(str).tolist())}
    conditions["abatement"][conditions["abatement"] > people["died"][conditions["patient"]]] = NEVER
    tables["DiagnosticReport"] = _reports(world, tables["Observation"], uuids)
    for kind, ending in _STATUS_UNTIL.items():
        tables[kind]["status"] = tables[kind][ending] <= until
    tables["Encounter"]["disposition"][~tables["Encounter"]["status"]] = -1
    for kind in KINDS:
        shape, table = SHAPES[kind], tables[kind]
        own = {name: _own(name, table, ids, begin, until) for name in shape.places & table.keys()}
        chosen = {name: table[name] for name in shape.codes & table.keys()}
        lines = shape.lines(codes[kind], chosen, own)
        texts[kind] = list(zip(table["patient"].tolist(), lines, strict=True))
    return texts


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
    has_panel = [*("panel" in world.raw["orders"][name] for name in world.orders), False]  # the last: of no order
    rows = np.flatnonzero(np.array(has_panel)[results["order"]])
    groups = [rows[group] for group in rows_alike([results["order"][rows], results["encounter"][rows]])]
    first = np.array([group[0] for group in groups], np.int64)
    table = {name: column[first] for name, column in results.items()}
    references = ([{"reference": f"Observation/{one}"} for one in results["id"][group]] for group in groups)
    issued = np.array([results["issued"][group].max() for group in groups], np.int64)
    table |= {"code": table["order"], "issued": issued, "results": _objects(json_of(one) for one in references)}
    return table | {"id": _ids("DiagnosticReport", table["patient"], table["number"], uuids)}


def _codes(world: World) -> dict[str, dict[str, list]]:
    """The codes that the rows of each type choose from: shapes/codes.toml, and the tables that it points to."""

    def listed(one: str | list[str] | dict[str, str]) -> list[Code]:
        if isinstance(one, dict):
            rows = (world.raw[one["table"]][name] for name in getattr(world, one["names"]))
            return [coded(one["system"], *row[one["key"]]) if one["key"] in row else None for row in rows]
        return [coded(*one) if isinstance(one, list) else one]

    codes: dict[str, dict[str, list]] = {
        kind: {name: [code for one in entry for code in listed(one)] for name, entry in CODES.get(kind, {}).items()}
        for kind in KINDS
    }
    codes["Observation"]["code"] = []
    for name, one in world.raw["measurements"].items():
        more = {"category": one["category"], "profile": CODES["profiles"][one["category"]]}
        for code in CODES["panels"].get(name, one["codes"]):
            codes["Observation"]["code"].append(coded("http://loinc.org", *code) | more | {"unit": code[2]})
    care, omb = world.raw["care"], "urn:oid:2.16.840.1.113883.6.238"
    codes["Patient"]["race"] = [coded(omb, code, name) for code, (name, _) in care["population"]["race"].items()]
    codes["Patient"]["site"] = codes["Encounter"]["site"] = [
        coded("", _uuid(f"organization {i}"), one["name"]) | {"city": one["city"], "postal_code": f"0{1000 + i}"}
        for i, one in enumerate(care["sites"])
    ]
    doctors = range(DOCTORS * len(care["sites"]))
    return codes | {"Practitioner": {"id": [_uuid(f"practitioner {doctor}") for doctor in doctors]}}


def _ids(kind: str, persons: Ints, numbers: Ints, uuids: list[str]) -> npt.NDArray:
    both = zip(persons.tolist(), numbers.tolist(), strict=True)
    return _objects(f"{uuids[person]}{KINDS.index(kind):x}{number:011x}" for person, number in both)


def _uuid(name: str) -> str:
    return str(UUID(bytes=hashlib.blake2b(f"simulated {name}".encode(), digest_size=16).digest()))


def _objects(values: Iterable[str]) -> npt.NDArray:
    return np.array(list(values), object)
