"""Files that break off, come packed, come wrong or lie elsewhere still arrive whole, or are told."""

import email.utils
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.bulk_export import ExportRequest, export
from features.sources.patience import Pace
from tests.features.sources.bulk_server import Answer, BulkServer, conditions, outcome, patients
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


@pytest.mark.parametrize("drops", [[10, 30] * 10, [10, 20, 30, 40, 50]])
def test_a_file_that_must_be_started_over_makes_no_headway(
    server: BulkServer, place: Path, pace: Pace, drops: list[int]
) -> None:
    server.knows_range, server.drops[0] = False, drops
    with pytest.raises(SourceError, match=r"the connection broke, 4 times in a row"):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("file")) == 4


def test_headway_is_not_believed_for_ever(server: BulkServer, place: Path, pace: Pace) -> None:
    server.drops[0] = list(range(1, 100))  # a byte at a time
    with pytest.raises(SourceError, match=r"the connection broke, 20 times\."):
        export(ExportRequest(server.base), place, NOW, pace=replace(pace, most_tries=20))
    assert len(server.asked("file")) == 20


@pytest.mark.parametrize("count", [100, None])
def test_a_part_shorter_than_asked_is_gone_on_with(
    server: BulkServer, place: Path, pace: Pace, count: int | None
) -> None:
    line = len(patients("patient-0"))
    server.drops[0], server.longest_part, server.counts = [10 * line], 40 * line, {0: count}  # each ends with a line
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, *(f"bytes={have * line}-" for have in (10, 50, 90))]
    assert landed(place) == MANY


@pytest.mark.parametrize("tag", [None, 'W/"one"'])
def test_nothing_is_gone_on_with_that_may_have_changed(
    server: BulkServer, place: Path, pace: Pace, tag: str | None
) -> None:
    """As many lines, as long, and other patients: only a validator could tell."""

    def change(position: int) -> None:
        if len(server.asked("file")) == 2:
            server.jobs[0]["output"] = [("Patient", MANY.replace(b"patient-", b"nobody--"))]

    server.tag, server.on_file, server.drops[0] = tag, change, [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, None]
    assert landed(place) == MANY.replace(b"patient-", b"nobody--")


def test_a_date_tells_versions_apart_once_it_is_past(server: BulkServer, place: Path, pace: Pace) -> None:
    server.tag, server.changed, server.drops[0] = None, "Sun, 01 Mar 2020 08:00:00 GMT", [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=1000-"]
    assert server.asked("file")[1].headers["If-Range"] == "Sun, 01 Mar 2020 08:00:00 GMT"
    assert landed(place) == MANY
    server.changed, server.seen, server.drops[0] = email.utils.formatdate(usegmt=True), [], [1000]
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert ranges(server) == [None, None]  # made in this second, perhaps not for the last time


def test_a_server_that_does_not_look_at_if_range_is_found_out(server: BulkServer, place: Path, pace: Pace) -> None:
    def change(position: int) -> None:
        server.tag = '"two"' if len(server.asked("file")) > 1 else '"one"'

    server.heeds_if_range, server.on_file, server.drops[0] = False, change, [1000]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert ranges(server) == [None, "bytes=1000-", None]
    assert landed(place) == MANY


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
        Answer(206, {"Content-Range": "bytes 1000-3999/4000"}, b"123456789\n"),  # and another than it says
        Answer(206, {"Content-Range": "bytes 1000-1009/*"}, b"123456789\n"),
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


def test_a_file_whose_server_always_fails_is_forgotten_with_its_job(
    server: BulkServer, place: Path, pace: Pace
) -> None:
    server.fail("file", *[Answer(500, body=outcome("fatal", "exception", "Jane Doe"))] * 4)
    with pytest.raises(SourceError, match=r"HTTP 500 \(fatal/exception\), 4 times in a row\. Missing") as problem:
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert "Jane" not in str(problem.value)
    assert len(server.asked("cancel")) == 1
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("kickoff")) == 2


@pytest.mark.parametrize(
    ("page", "said", "cancelled"),
    [
        (b"<html>\n<body>Please sign in</body>\n</html>\n", "such as a page to sign in", 0),
        (conditions("x"), "such as a page to sign in", 0),
        (patients("a") + conditions("x"), "such as a page to sign in", 0),
        (outcome("error", "exception", "Jane Doe"), "went wrong on the server", 1),
        (patients("a") + outcome("error", "exception"), "went wrong on the server", 1),
    ],
)
def test_what_is_not_the_type_that_was_listed_never_lands(
    server: BulkServer, place: Path, pace: Pace, page: bytes, said: str, cancelled: int
) -> None:
    server.counts = {0: None, 1: None}
    server.fail("file", Answer(200, body=page))
    export(ExportRequest(server.base), place, NOW, pace=pace)  # the second time it came as it should
    assert landed(place) == MANY
    server.output, server.seen = [("Patient", patients("other"))], []
    server.fail("file", *[Answer(200, body=page)] * 4)
    with pytest.raises(SourceError, match=rf"in place of Patient came .*{said}, 4 times.*last good state") as problem:
        export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert "Jane" not in str(problem.value)
    assert landed(place) == MANY
    assert len(server.asked("cancel")) == cancelled  # only when it is the FHIR server that says it failed


def test_a_byte_order_mark_and_blank_lines_are_no_fault(server: BulkServer, place: Path, pace: Pace) -> None:
    server.counts = {0: 1, 1: 0}
    server.output = [("Patient", b"\xef\xbb\xbf" + patients("a") + b"\n \n"), ("Patient", b" \n")]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert landed(place) == server.output[0][1]


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


@pytest.mark.parametrize(
    "odd",
    [b'{"resourceType":"Patient","id":NaN}\n', b'{"resourceType":"Patient","deep":' + b"[" * 100_000 + b"\n"],
    ids=["not JSON", "nested too deeply"],
)
def test_one_odd_record_at_the_end_or_the_beginning_is_for_the_reader(
    server: BulkServer, place: Path, pace: Pace, odd: bytes
) -> None:
    text = odd + patients("a") + odd
    server.output, server.counts = [("Patient", text)], {0: None}
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert (place / "0001-full" / "Patient.000.ndjson").read_bytes() == text
