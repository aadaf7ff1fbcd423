"""Files that break off, come packed, come wrong or lie elsewhere still arrive whole, or are told."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.bulk_export import ExportRequest, export
from features.sources.patience import Pace
from tests.features.sources.bulk_server import Answer, BulkServer, conditions, patients
from tests.features.sources.conftest import Clock

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MANY = patients(*(f"patient-{number}" for number in range(100)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


@pytest.fixture(autouse=True)
def one_file(server: BulkServer) -> None:
    server.output = [("Patient", MANY)]


def landed(place: Path) -> bytes:
    return (place / "0001-full" / "Patient.000.ndjson").read_bytes()


def ranges(server: BulkServer) -> list[str | None]:
    return [one.headers.get("Range") for one in server.asked("file")]


def test_a_dropped_file_is_taken_up_where_it_broke_off(
    server: BulkServer, place: Path, pace: Pace, clock: Clock
) -> None:
    server.drops[0] = [1000, 2500]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=1000-", "bytes=2500-"]
    assert server.asked("file")[1].headers["If-Range"] == '"one"'
    assert landed(place) == MANY
    assert clock.waits == [1, 1]  # each time it came further


def test_drops_without_headway_are_given_up(server: BulkServer, place: Path, pace: Pace) -> None:
    server.drops[0] = [1000] * 5
    with pytest.raises(SourceError, match=r"the connection broke, 4 times in a row\. Missing are 1 of 1 files"):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, *["bytes=1000-"] * 3]  # three without headway after one with


def test_a_server_without_ranges_starts_over(server: BulkServer, place: Path, pace: Pace) -> None:
    server.knows_range = False
    server.drops[0] = [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=1000-"]
    assert landed(place) == MANY


def test_a_file_that_changed_meanwhile_starts_over(server: BulkServer, place: Path, pace: Pace) -> None:
    def change(position: int) -> None:
        server.tag = '"two"' if len(server.asked("file")) > 1 else '"one"'

    server.on_file = change
    server.drops[0] = [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY


@pytest.mark.parametrize(
    "odd",
    [
        Answer(206, {"Content-Range": "bytes 0-9/4000"}, MANY[:10]),  # another part than asked for
        Answer(206, {"Content-Range": "bytes 1000-1009/4000", "Content-Encoding": "gzip"}, b"123456789\n"),
        Answer(416),
    ],
)
def test_a_server_that_goes_on_wrongly_is_asked_for_all(
    server: BulkServer, place: Path, pace: Pace, odd: Answer
) -> None:
    server.drops[0], server.counts = [1000], {0: None}
    server.on_file = lambda position: server.fail("file", odd) if not server.asked("file")[1:] else None
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=1000-", None]
    assert landed(place) == MANY


def test_a_file_that_ends_in_a_line_without_a_sign_is_asked_again(server: BulkServer, place: Path, pace: Pace) -> None:
    server.has_length, server.counts = False, {0: None}
    server.drops[0] = [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY


def test_the_last_line_needs_no_end(server: BulkServer, place: Path, pace: Pace) -> None:
    server.output = [("Patient", MANY.rstrip())]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY.rstrip()
    assert len(server.asked("file")) == 1


@pytest.mark.parametrize("packs", ["encoding", "body"])
def test_gzip_is_unpacked(server: BulkServer, place: Path, pace: Pace, packs: str) -> None:
    server.packs = packs
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY
    assert server.asked("file")[0].headers["Accept-Encoding"] == "gzip"


def test_a_file_packed_on_the_way_is_asked_unpacked_after_a_drop(server: BulkServer, place: Path, pace: Pace) -> None:
    server.packs = "encoding"
    server.drops[0] = [100, 1500]  # of the packed bytes, then of the plain ones
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert [(one.headers["Accept-Encoding"], one.headers.get("Range")) for one in server.asked("file")] == [
        ("gzip", None),
        ("identity", None),
        ("identity", "bytes=1500-"),
    ]
    assert landed(place) == MANY


def test_a_file_that_is_packed_is_taken_up_where_it_broke_off(server: BulkServer, place: Path, pace: Pace) -> None:
    server.packs = "body"
    server.drops[0] = [100]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=100-"]
    assert landed(place) == MANY


def test_a_packed_file_cut_short_without_a_sign_is_asked_again(server: BulkServer, place: Path, pace: Pace) -> None:
    server.packs, server.has_length = "body", False
    server.drops[0] = [100]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY


def test_a_wrong_count_is_told_with_its_type(server: BulkServer, place: Path, pace: Pace) -> None:
    server.counts = {0: 101}
    with pytest.raises(SourceError, match=r"file 1 \(Patient\): the server counts 101 resources, and 100 came, twice"):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("file")) == 2
    assert not place.exists()
    assert len(server.asked("cancel")) == 1  # the next run has it made anew


def test_a_count_that_is_right_at_the_second_time_will_do(server: BulkServer, place: Path, pace: Pace) -> None:
    server.has_length = False
    server.drops[0] = [len(patients("patient-0"))]  # the end of a line
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY


def test_a_missing_count_is_no_fault(server: BulkServer, place: Path, pace: Pace) -> None:
    server.counts = {0: None}
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == MANY


def test_several_files_come_at_a_time(server: BulkServer, place: Path, pace: Pace) -> None:
    server.output = [("Condition", conditions(str(number))) for number in range(4)]
    all_four = threading.Barrier(4)
    server.on_file = lambda position: all_four.wait(timeout=4) and None
    export(ExportRequest(server.base), place, NOW, pace=pace)  # would time out if they came one after another
    assert [(place / "0001-full" / f"Condition.{number:03d}.ndjson").read_bytes() for number in range(4)] == [
        conditions(str(number)) for number in range(4)
    ]
