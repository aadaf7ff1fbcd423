"""An export that is interrupted, killed or left unfinished: what stays, and what the next one makes of it."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources import bulk_export
from features.sources.bulk_export import ExportRequest, export
from features.sources.patience import Pace
from tests.features.sources.bulk_server import Answer, BulkServer, patients
from tests.features.sources.conftest import Clock

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def begin_elsewhere(server: BulkServer, place: Path) -> subprocess.Popen[bytes]:
    """An export in a program of its own."""
    program = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from features.sources.bulk_export import ExportRequest, export\n"
        "export(ExportRequest(sys.argv[1]), Path(sys.argv[2]), datetime.now(UTC))"
    )
    return subprocess.Popen([sys.executable, "-c", program, server.base, str(place)], stderr=subprocess.DEVNULL)


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_an_interrupt_while_waiting_cancels_the_job(server: BulkServer, place: Path, clock: Clock) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    export(ExportRequest(server.base), place, NOW)
    before = contents(place)
    server.polls = 1
    with pytest.raises(KeyboardInterrupt):
        export(ExportRequest(server.base), place, NOW, full=True, pace=Pace(sleep=interrupted))
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0", "/jobs/1"]
    assert contents(place) == before
    assert not list(place.parent.glob(".exporting*"))


def test_an_interrupt_while_fetching_cancels_the_job(server: BulkServer, place: Path, pace: Pace) -> None:
    def interrupt(position: int) -> None:
        if position == 2:
            _thread.interrupt_main()  # as Ctrl-C does
            time.sleep(0.2)

    server.on_file = interrupt
    with pytest.raises(KeyboardInterrupt):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0"]
    assert not place.exists()


def test_an_interrupt_while_the_job_is_begun_cancels_it(server: BulkServer, place: Path, pace: Pace) -> None:
    def interrupt() -> None:
        _thread.interrupt_main()
        time.sleep(0.3)  # the server begins, and answers when nobody seems to wait any longer

    server.on_kickoff = interrupt
    with pytest.raises(KeyboardInterrupt):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.jobs) == 1
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0"]
    assert not list(place.parent.glob(".exporting*"))


def test_a_beginning_without_an_answer_is_not_begun_again(server: BulkServer, place: Path, pace: Pace) -> None:
    server.on_kickoff = lambda: time.sleep(1)
    with pytest.raises(SourceError, match=r"did not answer within 0\.3 s, and may be at work all the same"):
        export(ExportRequest(server.base), place, NOW, pace=replace(pace, timeout_seconds=0.3))
    assert len(server.asked("kickoff")) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_ended_does_not_wait_for_a_slow_server(
    server: BulkServer, place: Path, how: signal.Signals
) -> None:
    is_over = threading.Event()

    def end(position: int) -> None:
        if not begun_to_end:
            begun_to_end.append(time.monotonic())
            child.send_signal(how)
        is_over.wait(30)

    begun_to_end: list[float] = []
    server.on_file = end
    child = begin_elsewhere(server, place)
    assert child.wait(timeout=30) != 0
    took = time.monotonic() - begun_to_end[0]
    is_over.set()
    assert took < 10  # far from the 30 s in which the server says nothing, and from the 60 s of a time-out
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0"]
    assert not place.exists()
    assert not list(place.parent.glob(".exporting*"))


def test_a_full_export_is_not_answered_by_the_remains_of_one_that_was_landed(
    server: BulkServer, place: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def landed_then_killed(*args: object) -> None:
        land(*args)  # type: ignore[arg-type]
        raise RuntimeError("killed")

    land = bulk_export._land
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.output = [("Patient", patients("a", "b"))]
    with monkeypatch.context() as patched:
        patched.setattr(bulk_export, "_land", landed_then_killed)
        with pytest.raises(RuntimeError):
            export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert (place / "0002-full").exists()
    server.output = [("Patient", patients("a", "b", "new"))]
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert len(server.asked("kickoff")) == 3
    assert (place / "0003-full" / "Patient.000.ndjson").read_bytes() == patients("a", "b", "new")


def test_a_job_is_not_gone_on_with_for_ever(server: BulkServer, place: Path, pace: Pace, clock: Clock) -> None:
    server.fail("status", *[Answer(503)] * 8)
    for hours in (71, 2):
        with pytest.raises(SourceError, match="Run again later"):
            export(ExportRequest(server.base), place, NOW, pace=pace)
        clock.now += hours * 3600
    assert len(server.jobs) == 1
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0", "/jobs/1"]
    assert len(server.jobs) == 2


def test_a_full_export_is_begun_anew_after_another_that_did_not_end(
    server: BulkServer, place: Path, pace: Pace
) -> None:
    server.fail("status", *[Answer(503)] * 8)
    for full in (False, True):  # both ask for the same, as nothing has been landed
        with pytest.raises(SourceError, match="Run again later"):
            export(ExportRequest(server.base), place, NOW, full=full, pace=pace)
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0"]
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)  # goes on with its own
    assert len(server.jobs) == 2


def test_a_run_after_a_killed_one_goes_on(server: BulkServer, place: Path, pace: Pace) -> None:
    killed: list[int] = []
    fetched = {0, 1}

    def kill(position: int) -> None:
        if position == 2 and not killed:
            while fetched - {int(one.path[9]) for one in server.asked("file")}:
                time.sleep(0.01)
            while len(list(place.parent.glob(".exporting*/*.ndjson"))) < 2:
                time.sleep(0.01)
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    server.on_file = kill
    child = begin_elsewhere(server, place)
    assert child.wait(timeout=30) == -signal.SIGKILL
    assert not place.exists()
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("kickoff")) == 1
    assert sorted(one.path[9] for one in server.asked("file")) == ["0", "1", "2", "2"]
    assert (place / "0001-full" / "Patient.001.ndjson").read_bytes() == patients("c")


def test_an_unfinished_job_for_something_else_is_cancelled(server: BulkServer, place: Path, pace: Pace) -> None:
    server.fail("status", *[Answer(503)] * 4)
    with pytest.raises(SourceError):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    export(ExportRequest(server.base, types=("Patient",)), place, NOW, pace=pace)
    assert [one.path for one in server.asked("cancel")] == ["/jobs/0", "/jobs/1"]


def test_two_exports_at_once_to_one_place_are_refused(server: BulkServer, place: Path, pace: Pace) -> None:
    refused: list[str] = []

    def second(position: int) -> None:
        if not refused:
            refused.append("")
            try:
                export(ExportRequest(server.base), place, NOW, pace=pace)
            except SourceError as problem:
                refused.append(str(problem))

    server.on_file = second
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert "Another run is exporting" in refused[1]


def test_a_landing_killed_between_its_two_moves_is_healed(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = contents(place)
    place.rename(place.with_name(".landed.before-fhir_server"))
    export(ExportRequest(server.base), place, NOW, pace=pace)  # of what has changed: nothing
    assert {name: text for name, text in contents(place).items() if name != ".asked_until"} == before
    assert len(server.asked("kickoff")) == 2
    assert "_since" in server.asked("kickoff")[1].path
