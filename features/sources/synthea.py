"""Synthea's patients: runs the program that https://github.com/synthetichealth/synthea releases, and lands its NDJSON.

Asked for as its own documentation names things: R4, bulk NDJSON, US Core, and the whole history. By default Synthea
keeps the ten years before death or export, and the length of a record would then tell who died.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, deque
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

from features.errors import SourceError
from features.sources.background import follow
from features.sources.landed import LandedFile, Manifest, is_landed, landed_file, landing, write_manifest
from features.sources.synthea_program import find_jar, find_java, jar_digest, version_of
from features.sources.termination import termination_is_interrupt

# The simulation stops with the first moment of this day. It is fixed, so that the same request gives the same people.
END = date(2026, 1, 1)
YEARS_OF_HISTORY = 0  # all of it
_NOT_WANTED = "Claim,ExplanationOfBenefit,Provenance"  # more than half of all bytes, and none of it is read here
_FEWEST_SHARE = 0.9
_PERSON = re.compile(r"\d+ -- ")  # how a line of progress begins that names a patient
_LAST_WORDS = 12  # lines
_PATIENCE_SECONDS = 10


@termination_is_interrupt()
def land_synthea(place: Path, patients: int, seed: int, state: str, city: str, now: datetime) -> None:
    """Land `patients` living patients, and those who died on the way, in `place`; nothing to do when they are there.

    `state` and `city` in full, as "Massachusetts" and "Boston"; empty for the whole country. `now` is UTC.
    Raises SourceError when there is no Java or no jar, and when Synthea fails; what lay in `place` then stays.
    """
    if city and not state:
        raise SourceError('--city needs its --state too, as in `--state Utah --city "Salt Lake City"`.')
    asked: dict[str, str | int] = {
        "patients": patients,
        "seed": seed,
        "state": state,
        "city": city,
        "end": END.isoformat(),
        "years_of_history": YEARS_OF_HISTORY,
        "jar_sha256": jar_digest(),
    }
    if is_landed(place, "synthea", asked):
        return
    java, jar = find_java(), find_jar()
    with landing(place) as building:
        output = building / "output"
        output.mkdir()
        _run(_command(java, jar, asked, output), output)
        files = _collected(output / "fhir", building)
        _require_patients(files, patients)
        shutil.rmtree(output)
        manifest = Manifest(
            kind="synthea",
            origin=f"Synthea {version_of(str(asked['jar_sha256']))}: synthetic patients, not real people",
            made_at=now.isoformat(timespec="seconds"),
            files=files,
            covers_until=f"{END}T00:00:00Z",
            parameters=asked,
        )
        write_manifest(building, manifest)


def _command(java: str, jar: Path, asked: dict[str, str | int], output: Path) -> list[str]:
    day = END.strftime("%Y%m%d")
    settings = {
        "exporter.baseDirectory": output,
        "exporter.fhir.export": "true",
        "exporter.fhir.bulk_data": "true",
        "exporter.fhir.use_us_core_ig": "true",
        "exporter.fhir.excluded_resources": _NOT_WANTED,
        "exporter.hospital.fhir.export": "true",  # the sites
        "exporter.practitioner.fhir.export": "false",
        "exporter.years_of_history": asked["years_of_history"],
        "generate.only_alive_patients": "false",
        # Its lines of progress name patients: for a terminal, not for a log that is kept.
        "generate.log_patients.detail": "simple" if sys.stderr.isatty() else "none",
    }
    seeds = ["-s", str(asked["seed"]), "-cs", str(asked["seed"])]
    return [
        *(java, "-Duser.timezone=UTC", "-jar", str(jar)),
        *("-p", str(asked["patients"]), *seeds, "-r", day, "-e", day),
        *(f"--{name}={value}" for name, value in settings.items()),
        *(str(asked[name]) for name in ("state", "city") if asked[name]),
    ]


def _run(command: list[str], folder: Path) -> None:
    """Run Synthea with its own words on the terminal. It ends with this process, unless that one is killed."""
    last_words: deque[str] = deque(maxlen=_LAST_WORDS)
    program = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, so that all of it can be ended
    )
    try:
        for line in follow(program.stdout or ()):
            print(line, end="", file=sys.stderr)
            if line.strip() and not _PERSON.match(line):
                last_words.append(line.rstrip())
        exit_code = program.wait()
    finally:
        _end(program)
    if exit_code:
        raise SourceError(_failure(exit_code, "\n".join(last_words)))


def _end(program: subprocess.Popen[str]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if program.poll() is not None:
            return
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(program.pid, how)
            program.wait(_PATIENCE_SECONDS)


def _failure(exit_code: int, last_words: str) -> str:
    ended = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    is_memory = "OutOfMemoryError" in last_words or exit_code == -signal.SIGKILL
    advice = (
        "It ran out of memory: ask for fewer --patients, or give Java more, as with JDK_JAVA_OPTIONS=-Xmx8g."
        if is_memory
        else "Check --state and --city, which Synthea wants in full (Massachusetts, Boston), and what it says here."
    )
    return f"Synthea {ended}, so nothing was landed. {advice} Its last words:\n{last_words}"


def _collected(written: Path, building: Path) -> tuple[LandedFile, ...]:
    """Move Synthea's files up. Those about places carry the time of the run in their names, which goes."""
    seen = Counter[str]()
    files = []
    for path in sorted(written.glob("*.ndjson")):
        resource_type = path.name.partition(".")[0]
        seen[resource_type] += 1
        number = f".{seen[resource_type]}" if seen[resource_type] > 1 else ""
        place = building / f"{resource_type}{number}.ndjson"
        path.replace(place)
        files.append(landed_file(place, resource_type))
    return tuple(files)


def _require_patients(files: tuple[LandedFile, ...], asked: int) -> None:
    """Synthea may end well although it could not make somebody, or anybody, and says so in passing."""
    found = sum(file.resources for file in files if file.resource_type == "Patient")
    if found < _FEWEST_SHARE * asked:
        raise SourceError(
            f"Synthea wrote {found:,} of the {asked:,} patients that were asked for, so nothing was landed. What it "
            "said above tells why; with too little memory, give Java more, as with JDK_JAVA_OPTIONS=-Xmx8g."
        )
