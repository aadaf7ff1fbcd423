"""How much sooner is a second reading done: of an export that adds something, of the same again, of nearly the same?

Called by `python -m benchmarks.ingest --increment`. The records are written as one export of NDJSON. Then, each time
with a home that has read it:

- *increment*: a second export brings new versions of ten results of one patient in a hundred;
- *reexport*: the first export is made again and says the same, in another order of lines and in other files;
- *changed_reexport*: the first export is made again in the same order, with those new versions in place of the old.
"""

import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from features.ingest import IngestResult

_EVERY = 100
_RESULTS_CHANGED = 10
_NEW_VERSION = {"versionId": "2", "lastUpdated": "2035-01-01T00:00:00Z"}

Reading = Callable[[Path, Path], tuple[float, IngestResult]]


def measure_increment(resources: Iterable[dict], folder: Path, rounds: int, read: Reading) -> dict[str, float | int]:
    """Seconds, the best of some rounds, and patients made anew; `read` reads a folder into a home."""
    place, home = folder / "place", folder / "home"
    patients = _write(resources, place / "0001-full")
    first: list[float] = []
    for _ in range(rounds):
        shutil.rmtree(home, ignore_errors=True)
        seconds, result = read(place, home)
        first.append(seconds)
    old, new = _new_versions(place / "0001-full" / "Observation.ndjson", set(patients[::_EVERY]))
    figures: dict[str, float | int] = {
        "patients": result.subjects,
        "patients_changed": len(patients[::_EVERY]),
        "seconds_full": round(min(first), 3),
    }
    for name, prepare in (("increment", _add), ("reexport", _shuffle), ("changed_reexport", _replace)):
        changed_place = folder / name / "place"
        shutil.copytree(place, changed_place, copy_function=_as_it_is)
        prepare(changed_place, old, new)
        found: list[float] = []
        for number in range(rounds):
            copy = folder / name / f"home-{number}"
            shutil.copytree(home, copy)
            seconds, result = read(changed_place, copy)
            found.append(seconds)
            shutil.rmtree(copy)
        figures |= {f"seconds_{name}": round(min(found), 3), f"rebuilt_{name}": result.subjects_rebuilt}
        figures[f"times_sooner_{name}"] = round(min(first) / min(found), 1)
    return figures


def _write(resources: Iterable[dict], export: Path) -> list[str]:
    """Write an export, and give the patients' ids."""
    export.mkdir(parents=True)
    files = {}
    patients = []
    for resource in resources:
        kind = resource["resourceType"]
        if kind not in files:
            files[kind] = (export / f"{kind}.ndjson").open("wb")
        files[kind].write(orjson.dumps(resource) + b"\n")
        if kind == "Patient":
            patients.append(resource["id"])
    for file in files.values():
        file.close()
    return patients


def _new_versions(observations: Path, patients: set[str]) -> tuple[list[bytes], list[bytes]]:
    """Lines of some patients' results, and the lines that correct them."""
    left = dict.fromkeys(patients, _RESULTS_CHANGED)
    old, new = [], []
    for line in observations.read_bytes().splitlines(keepends=True):
        record = orjson.loads(line)
        patient = record["subject"]["reference"].replace(":", "/").rsplit("/", maxsplit=1)[-1]
        value = record.get("valueQuantity", {}).get("value")
        if value is not None and left.get(patient):
            left[patient] -= 1
            record["valueQuantity"]["value"] = value + 1
            old.append(line)
            new.append(orjson.dumps(record | {"meta": _NEW_VERSION}) + b"\n")
    return old, new


def _add(place: Path, _old: list[bytes], new: list[bytes]) -> None:
    (place / "0002-since").mkdir()
    (place / "0002-since" / "Observation.ndjson").write_bytes(b"".join(new))


def _replace(place: Path, old: list[bytes], new: list[bytes]) -> None:
    corrected = dict(zip(old, new, strict=True))
    path = place / "0001-full" / "Observation.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join(corrected.get(line, line) for line in lines))


def _shuffle(place: Path, _old: list[bytes], _new: list[bytes]) -> None:
    draw = random.Random(1)
    for path in sorted((place / "0001-full").iterdir()):
        lines = path.read_bytes().splitlines(keepends=True)
        draw.shuffle(lines)
        path.unlink()
        for part in range(3):
            path.with_name(f"{path.stem}.{part}.ndjson").write_bytes(b"".join(lines[part::3]))


def _as_it_is(origin: str, place: str) -> None:
    Path(place).hardlink_to(origin)
