"""How fast are records read? Against fhir.resources' validation and a bare orjson loop, on the same files in one run.

    python -m benchmarks.ingest --from DIR [--json] [--repeat N] [--rounds N] [--increment]

Times the whole ingest, from files to the sorted dataset and the encrypted vault, the start of its processes included;
the best of some rounds, because a round can only be slowed by what else the machine does. `--repeat` reads the records
N times over as records of other patients, so that the figures of a small folder are not those of starting processes,
and memory can be watched as patients grow. `--increment` times second readings instead: see benchmarks/increment.py.
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from benchmarks.increment import measure_increment
from features.home import Home
from features.ingest import IngestResult, ingest
from features.records.reading import find_files, raw_text
from features.settings import RecordSettings, StudySettings

_UUID_START = re.compile(rb"\b[0-9a-f]{8}(?=-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_RECORDS_TO_VALIDATE = 4_000
_SETTINGS = StudySettings(records=RecordSettings(quarantine_share_limit=1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder of FHIR records")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    parser.add_argument("--repeat", type=int, default=1, help="read the records this many times over")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the best counts")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="processes that read")
    parser.add_argument("--increment", action="store_true", help="time second readings, of an increment and others")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sequela-benchmark-") as folder:
        key = Path(folder) / "key"
        key.write_text("5e" * 32)
        key.chmod(0o600)
        os.environ["SEQUELA_KEY_FILE"] = str(key)
        source = options.source if options.repeat == 1 else _repeated(options.source, options.repeat, Path(folder))
        if options.increment:
            figures = measure_increment(
                _all_resources(source),
                Path(folder),
                options.rounds,
                lambda place, home: _in_a_process_of_its_own(place, home, options.processes)[:2],
            )
        else:
            figures = measure(source, Path(folder), options.rounds, options.processes)
    if not options.json:
        for name, value in figures.items():
            print(f"{name:24} {value:>14,.1f}" if isinstance(value, float) else f"{name:24} {value:>14,}")
    print(json.dumps(figures))


def measure(source: Path, folder: Path, rounds: int, processes: int) -> dict[str, float | int]:
    """The figures of one folder."""
    files, _ = find_files(source)
    megabytes = sum(sum(map(len, raw_text(file))) for file in files) / 1e6
    seconds, peak_mb, records = [], [], 0
    orjson_seconds = []
    for number in range(rounds):  # by turns, so that a slow moment of the machine meets both
        home = folder / f"home-{number}"
        took, result, peak = _in_a_process_of_its_own(source, home, processes)
        records = result.records_in
        seconds.append(took)
        peak_mb.append(peak)
        started = time.perf_counter()
        picked = sum(1 for _ in _parsed_and_picked(source))
        orjson_seconds.append(time.perf_counter() - started)
    resources_per_s = records / min(seconds)
    orjson_per_s = picked / min(orjson_seconds)
    fhir_resources_per_s = _validated_per_second(source)
    return {
        "resources": records,
        "processes": processes,
        "seconds": round(min(seconds), 3),
        "resources_per_s": round(resources_per_s),
        "mb_per_s": round(megabytes / min(seconds), 1),
        "peak_mb": round(max(peak_mb)),
        "fhir_resources_per_s": round(fhir_resources_per_s),
        "orjson_per_s": round(orjson_per_s),
        "ratio_fhir_resources": round(resources_per_s / fhir_resources_per_s, 1),
        "ratio_orjson": round(resources_per_s / orjson_per_s, 2),
    }


def _in_a_process_of_its_own(source: Path, home: Path, processes: int) -> tuple[float, IngestResult, float]:
    """Seconds, what was found, and the peak of memory resident in the process and its children together, MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_ingest_and_tell, args=(source, home, processes, sender))
    child.start()
    sender.close()
    peak = 0.0
    while not receiver.poll(0.1):
        peak = max(peak, _resident_mb(child.pid or 0))
    took, result = receiver.recv()
    child.join()
    return took, result, peak


def _ingest_and_tell(source: Path, home: Path, processes: int, sender: multiprocessing.connection.Connection) -> None:
    started = time.perf_counter()
    result = ingest(source, Home(home), _SETTINGS, processes)
    sender.send((time.perf_counter() - started, result))


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it, pages that they share counted once each (Linux)."""
    total = 0.0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total = next(float(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            total += sum(_resident_mb(int(child)) for child in file.read().split())
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        pass  # ended meanwhile
    return total


def _documents(source: Path) -> Iterator[bytes]:
    """The JSON texts of a folder: each line of NDJSON, or each whole document."""
    for file in find_files(source)[0]:
        text = b"".join(raw_text(file))
        if file.shape == "lines":
            yield from filter(None, text.split(b"\n"))
        else:
            yield text


def _resources(document: dict) -> list[dict]:
    if document.get("resourceType") == "Bundle":
        return [entry["resource"] for entry in document.get("entry", []) if "resource" in entry]
    return [document]


def _all_resources(source: Path) -> Iterator[dict]:
    for text in _documents(source):
        yield from _resources(orjson.loads(text))


def _parsed_and_picked(source: Path) -> Iterator[tuple]:
    """The least that any reader does: parse, and take type, id, patient, code, date and value."""
    for record in _all_resources(source):
        coding = ((record.get("code") or {}).get("coding") or [{}])[0]
        yield (
            record["resourceType"],
            record.get("id"),
            (record.get("subject") or record.get("patient") or {}).get("reference"),
            coding.get("system"),
            coding.get("code"),
            record.get("effectiveDateTime") or record.get("onsetDateTime") or record.get("period"),
            (record.get("valueQuantity") or {}).get("value"),
        )


def _validated_per_second(source: Path) -> float:
    """Records a second that fhir.resources (R4B) validates on one core, on an even sample; refusals count too."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    records = list(_all_resources(source))
    sample = records[:: max(1, len(records) // _RECORDS_TO_VALIDATE)]
    models: dict[str, Callable] = {
        kind: get_fhir_model_class(kind).model_validate for kind in {record["resourceType"] for record in sample}
    }
    for record in sample[:50]:  # models are built when first used
        _validate(models, record, ValidationError)
    started = time.perf_counter()
    for record in sample:
        _validate(models, record, ValidationError)
    return len(sample) / (time.perf_counter() - started)


def _validate(models: dict[str, Callable], record: dict, refusal: type[Exception]) -> None:
    with contextlib.suppress(refusal):
        models[record["resourceType"]](record)


def _repeated(source: Path, times: int, folder: Path) -> Path:
    """A folder with the records of `source` under other ids, `times` over."""
    target = folder / "records"
    target.mkdir()
    for file in find_files(source)[0]:
        text = b"".join(raw_text(file))
        for copy in range(times):
            mark = b"%08x" % copy

            def other(found: re.Match[bytes], mark: bytes = mark) -> bytes:
                return bytes(
                    b"0123456789abcdef"[int(a, 16) ^ int(b, 16)]
                    for a, b in zip(found.group().decode(), mark.decode(), strict=True)
                )

            name = f"{file.number:05d}-{copy:05d}.{'ndjson' if file.shape == 'lines' else 'json'}"
            (target / name).write_bytes(_UUID_START.sub(other, text))
    return target


if __name__ == "__main__":
    main()
