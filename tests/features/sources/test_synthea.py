"""Synthea is found, fetched, checked and run; whatever goes wrong is said with the next step, and changes nothing."""

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
import pytest

from features.errors import SourceError
from features.sources import synthea_program
from features.sources.landed import changed_files, last_whole_day, read_manifest
from features.sources.synthea import END, land_synthea
from features.sources.synthea_program import JAR_SHA256, find_jar, find_java
from tests.features.sources.stand_in import PROJECT, put_java_in_place, runs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JAR = b"what was released"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return put_java_in_place(tmp_path, monkeypatch)


def land(place: Path, patients: int = 5, seed: int = 7, state: str = "", city: str = "") -> None:
    land_synthea(place, patients, seed, state, city, NOW)


def test_it_is_asked_for_the_whole_history_as_bulk_ndjson(log: Path, tmp_path: Path) -> None:
    land(tmp_path / "synthea", state="Utah", city="Salt Lake City")
    ((_, *arguments),) = runs(log)
    assert arguments[:3] == ["-Duser.timezone=UTC", "-jar", str(tmp_path / "own.jar")]
    assert arguments[3:13] == ["-p", "5", "-s", "7", "-cs", "7", "-r", "20260101", "-e", "20260101"]
    assert arguments[-2:] == ["Utah", "Salt Lake City"]
    assert {
        "--exporter.fhir.export=true",
        "--exporter.fhir.bulk_data=true",
        "--exporter.fhir.use_us_core_ig=true",
        "--exporter.years_of_history=0",
        "--generate.only_alive_patients=false",
        "--generate.log_patients.detail=none",  # what is said here does not go to a terminal
    } <= set(arguments)


def test_what_it_wrote_is_landed_with_a_manifest(log: Path, tmp_path: Path) -> None:
    place = tmp_path / "synthea"
    land(place)
    manifest = read_manifest(place)
    assert manifest is not None
    assert {path.name for path in place.iterdir()} == {file.name for file in manifest.files} | {"manifest.json"}
    assert "Organization.ndjson" in {file.name for file in manifest.files}  # without the time of the run
    assert changed_files(place, manifest) == []
    (patients,) = [file for file in manifest.files if file.resource_type == "Patient"]
    assert patients.resources == 5
    first = orjson.loads((place / "Patient.ndjson").read_bytes().splitlines()[0])
    assert first["identifier"][0]["system"] == "https://github.com/synthetichealth/synthea"
    assert manifest.kind == "synthea"
    assert "synthetic patients, not real people" in manifest.origin
    assert manifest.parameters["years_of_history"] == 0
    assert manifest.parameters["jar_sha256"] == hashlib.sha256(b"a jar").hexdigest()
    assert manifest.made_at == "2026-03-01T12:00:00+00:00"
    assert manifest.parameters["end"] == END.isoformat() == "2026-01-01"
    assert last_whole_day(manifest.covers_until) == date(2025, 12, 31)
    assert place.stat().st_mode & 0o777 == 0o700


def test_the_same_again_runs_nothing(log: Path, tmp_path: Path) -> None:
    place = tmp_path / "synthea"
    land(place)
    before = read_manifest(place)
    land(place)
    assert len(runs(log)) == 1
    assert read_manifest(place) == before


@pytest.mark.parametrize("other", [{"patients": 6}, {"seed": 8}, {"state": "Maine"}])
def test_another_request_runs_it_again(log: Path, tmp_path: Path, other: dict[str, int]) -> None:
    land(tmp_path / "synthea")
    land(tmp_path / "synthea", **other)  # type: ignore[arg-type]
    assert len(runs(log)) == 2


def test_another_jar_or_a_damaged_file_runs_it_again(log: Path, tmp_path: Path) -> None:
    place = tmp_path / "synthea"
    land(place)
    (tmp_path / "own.jar").write_bytes(b"another jar")
    land(place)
    assert len(runs(log)) == 2
    patients = place / "Patient.ndjson"
    patients.write_bytes(patients.read_bytes().replace(b'"female"', b'"FEMALE"'))  # as many bytes as before
    land(place)
    (place / "Encounter.ndjson").unlink()
    land(place)
    (place / "manifest.json").write_text("{")
    land(place)
    assert len(runs(log)) == 5


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "exit code 1.*--state and --city.*RuntimeException: no such place"),
        ("memory", "exit code 1.*ran out of memory.*JDK_JAVA_OPTIONS"),
        ("nothing", "0 of the 5 patients"),
    ],
)
def test_a_failed_run_says_why_and_changes_nothing(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, words: str
) -> None:
    place = tmp_path / "synthea"
    land(place)
    before = read_manifest(place)
    monkeypatch.setenv("STAND_IN", how)
    with pytest.raises(SourceError, match=re.compile(words, re.DOTALL)) as failed:
        land(place, seed=8)
    assert "Abe604" not in str(failed.value)
    assert read_manifest(place) == before
    assert changed_files(place, before) == []  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("how", "words"), [("old", "needs Java 17 or newer; .* is Java 8"), ("silent", "no Java was found")]
)
def test_a_java_that_cannot_run_it_is_refused(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, words: str
) -> None:
    monkeypatch.setenv("STAND_IN", how)
    with pytest.raises(SourceError, match=words):
        land(tmp_path / "synthea")
    assert runs(log) == []


def test_java_home_comes_before_the_path(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_java() == str(tmp_path / "bin" / "java")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError, match=r"no Java was found.*--from simulated"):
        find_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert find_java() == str(tmp_path / "bin" / "java")


def test_a_city_needs_its_state(log: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--state"):
        land(tmp_path / "synthea", city="Boston")


def test_a_jar_that_is_not_there_is_told(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUELA_SYNTHEA_JAR", str(tmp_path / "none.jar"))
    with pytest.raises(SourceError, match="there is no such file"):
        land(tmp_path / "synthea")


@pytest.fixture
def release(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that hands out JAR in the place of the release; the list of what it was asked for."""
    asked: list[str] = []

    class Release(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(JAR)))
            self.end_headers()
            self.wfile.write(JAR)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Release) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("SEQUELA_SYNTHEA_JAR")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(synthea_program, "JAR_URL", f"http://127.0.0.1:{server.server_port}/synthea.jar")
        monkeypatch.setattr(synthea_program, "JAR_SHA256", hashlib.sha256(JAR).hexdigest())
        yield asked
        server.shutdown()


def test_the_release_is_downloaded_once(release: list[str], tmp_path: Path) -> None:
    jar = find_jar()
    assert jar.parent == tmp_path / "cache" / "sequela"
    assert jar.read_bytes() == JAR
    assert find_jar() == jar
    assert release == ["/synthea.jar"]
    jar.write_bytes(b"damaged")
    assert find_jar().read_bytes() == JAR
    assert [path.name for path in jar.parent.iterdir()] == [jar.name]


def test_what_is_not_the_release_is_not_run(
    release: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthea_program, "JAR_SHA256", JAR_SHA256)
    with pytest.raises(SourceError, match=r"is not Synthea 4\.0\.0: its sha256 is"):
        land(tmp_path / "synthea")
    assert list((tmp_path / "cache" / "sequela").iterdir()) == []
    assert runs(tmp_path / "log") == []


def test_without_a_network_the_next_step_is_told(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQUELA_SYNTHEA_JAR")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(synthea_program, "JAR_URL", "http://127.0.0.1:9/synthea.jar")  # nobody listens there
    with pytest.raises(SourceError, match=r"could not be downloaded.*refused.*SEQUELA_SYNTHEA_JAR="):
        land(tmp_path / "synthea")


def test_the_release_is_pinned() -> None:
    assert synthea_program.JAR_URL.startswith("https://github.com/synthetichealth/synthea/releases/download/v4.0.0/")
    assert re.fullmatch("[0-9a-f]{64}", JAR_SHA256)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_java_too(log: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C reaches this process alone, as when Dagster ends a run; Java is in a group of its own."""
    place = tmp_path / "synthea"
    land(place)
    before = read_manifest(place)
    code = (
        "from datetime import UTC, datetime; from pathlib import Path\n"
        "from features.sources.synthea import land_synthea\n"
        f"land_synthea(Path({str(place)!r}), 5, 8, '', '', datetime.now(UTC))"
    )
    environment = os.environ | {"STAND_IN": "hangs", "PYTHONPATH": str(PROJECT)}
    landing = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    assert landing.stderr is not None
    for line in landing.stderr:
        if "Abe604" in line:
            break
    java = int(runs(log)[-1][0])
    os.kill(java, 0)  # it runs
    landing.send_signal(how)
    assert landing.wait(20) != 0
    landing.stderr.close()
    deadline = time.monotonic() + 10
    while _runs(java) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(java)
    assert read_manifest(place) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
