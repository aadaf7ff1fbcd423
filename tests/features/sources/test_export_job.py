"""What the client does when the server is slow, busy, away, forgetful or wrong."""

import email.utils
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.bulk_export import ExportRequest, export
from features.sources.export_landing import covered_until
from features.sources.landed import last_whole_day
from features.sources.patience import Pace, seconds_to_wait
from tests.features.sources.bulk_server import Answer, BulkServer, outcome, patients
from tests.features.sources.conftest import Clock

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("1.5", 1.5),
        (email.utils.formatdate(1_780_000_020, usegmt=True), 20),  # the clock says 1,780,000,000
        ("1780000020", 20),  # a moment where a length of time belongs
        ("1780000020000", 20),  # the same in milliseconds
        ("-3", -3),
        ("soon", None),
        ("nan", None),
        (None, None),
    ],
)
def test_retry_after_is_understood_in_all_forms(retry_after: str | None, seconds: float | None, clock: Clock) -> None:
    assert seconds_to_wait(retry_after, clock.now) == seconds


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [("7", 7), ("1780000020", 20), ("0", 1), ("1779990000", 1), ("86400", 300), ("1999999999", 300)],
)
def test_polling_waits_as_long_as_asked_within_bounds(
    server: BulkServer, place: Path, pace: Pace, clock: Clock, retry_after: str, waited: float
) -> None:
    server.fail("status", Answer(202, {"Retry-After": retry_after}))
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert clock.waits == [waited]


def test_polling_backs_off_when_nothing_is_asked(server: BulkServer, place: Path, pace: Pace, clock: Clock) -> None:
    server.polls = 8
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert clock.waits == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("kind", ["kickoff", "status", "file"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    server: BulkServer, place: Path, pace: Pace, clock: Clock, kind: str, status: int
) -> None:
    server.output = server.output[:1]
    server.fail(kind, Answer(status, {"Retry-After": "9"}), Answer(status))
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert clock.waits == [9, 2]  # as asked, then by doubling
    assert (place / "0001-full" / "Patient.000.ndjson").read_bytes() == patients("a", "b")


def test_a_server_that_stays_away_is_given_up_and_its_job_kept(
    server: BulkServer, place: Path, pace: Pace, clock: Clock
) -> None:
    server.fail("status", *[Answer(503)] * 4)
    with pytest.raises(SourceError, match=r"HTTP 503, 4 times in a row\. The last good state stands\. Run again later"):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert clock.waits == [1, 2, 4]
    assert not place.exists()
    assert server.asked("cancel") == []
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("kickoff")) == 1  # gone on with
    assert (place / "0001-full").exists()


def test_no_server_at_all(place: Path, pace: Pace, clock: Clock) -> None:
    with BulkServer() as server:
        gone = server.base
    with pytest.raises(SourceError, match=r"no connection to 127\.0\.0\.1, 4 times in a row"):
        export(ExportRequest(gone), place, NOW, pace=replace(pace, tries=8))
    assert clock.waits == [1, 2, 4]  # an address that never answered may be wrong: 7 s, not minutes


def test_the_deadline_ends_the_waiting_and_keeps_the_job(
    server: BulkServer, place: Path, pace: Pace, clock: Clock
) -> None:
    server.fail("status", *[Answer(202, {"Retry-After": "300"})] * 1000)
    with pytest.raises(SourceError, match="not done within 24 hours"):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(clock.waits) == 24 * 12  # each of five minutes
    assert server.asked("cancel") == []


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("kind", ["status", "file"])
def test_an_expired_export_is_started_anew_once(
    server: BulkServer, place: Path, pace: Pace, kind: str, status: int
) -> None:
    server.fail(kind, Answer(status))
    told: list[str] = []
    export(ExportRequest(server.base), place, NOW, pace=pace, tell=told.append)
    assert len(server.asked("kickoff")) == 2
    assert len(server.asked("cancel")) == 2  # the expired job, and the finished one
    assert (place / "0001-full" / "Patient.001.ndjson").read_bytes() == patients("c")
    assert any(f"HTTP {status}" in one and "started anew" in one for one in told)


def test_an_export_that_expires_twice_is_told(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = contents(place)
    server.fail("status", Answer(410), Answer(410))
    with pytest.raises(SourceError, match=r"HTTP 410.*started anew once already.*last good state"):
        export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert contents(place) == before


def test_a_failed_job_is_told_and_forgotten(server: BulkServer, place: Path, pace: Pace) -> None:
    failed = Answer(500, body=outcome("fatal", "exception", "while reading Jane Doe"))
    server.fail("status", *[failed] * 4)
    with pytest.raises(SourceError, match=r"HTTP 500 \(fatal/exception\), 4 times") as problem:
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert "Jane" not in str(problem.value)
    assert len(server.asked("cancel")) == 1
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert len(server.asked("kickoff")) == 2


def test_a_refused_job_is_told(server: BulkServer, place: Path, pace: Pace) -> None:
    server.fail("status", Answer(400, body=outcome("error", "not-supported", "Jane Doe")))
    with pytest.raises(SourceError, match=r"HTTP 400 \(error/not-supported\)") as problem:
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert "Jane" not in str(problem.value)


def test_a_refused_kick_off_is_told_in_the_servers_words(server: BulkServer, place: Path, pace: Pace) -> None:
    server.fail("kickoff", Answer(400, body=outcome("error", "invalid", "Unknown type\nDevice")))
    with pytest.raises(SourceError, match=r'HTTP 400 \(error/invalid\)\. It says: "Unknown type Device"'):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert not place.exists()
    assert [path.name for path in place.parent.iterdir()] == [".fhir_server.lock"]


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("kickoff", Answer(202), "no Content-Location"),
        ("kickoff", Answer(403), "does not allow it"),
        ("kickoff", Answer(401), "wants to know who asks"),
        ("kickoff", Answer(202, {"Content-Location": "http://elsewhere.example/jobs/0"}), "https only"),
        ("kickoff", Answer(302, {"Location": "http://elsewhere.example/fhir"}), "https only"),
        ("status", Answer(200, body=b"<html>"), "cannot be understood"),
        ("status", Answer(200, body=b'{"output":[]}'), "cannot be understood"),
        ("status", Answer(200, body=b'{"transactionTime":"now","output":[]}'), "cannot be understood"),
        (
            "status",
            Answer(200, body=b'{"transactionTime":"2026-02-01T00:00:00Z","output":[{"type":"../x","url":"/"}]}'),
            "no record at all and names of no FHIR type: 1",
        ),
        ("file", Answer(400), "HTTP 400"),
    ],
)
def test_answers_against_the_rules_are_told(
    server: BulkServer, place: Path, pace: Pace, kind: str, answer: Answer, said: str
) -> None:
    server.fail(kind, answer)
    with pytest.raises(SourceError, match=said):
        export(ExportRequest(server.base), place, NOW, pace=pace)
    assert not place.exists()


@pytest.mark.parametrize(
    ("moment", "is_believed"),
    [
        ("2026-02-01T08:00:00.123456789Z", True),
        ("2026-02-01T10:00:00+02:00", True),
        ("2026-05-29T00:00:00Z", True),  # less than a day after the clock's 2026-05-28T20:26:40Z
        ("2026-05-30T00:00:00Z", False),
        ("9999-12-31T23:59:59-14:00", False),
        ("0001-01-01T00:00:00Z", False),  # of a server that leaves it empty
        ("0001-01-01T00:00:00+14:00", False),
        ("2026-02-01T08:00:00", False),
        ("2026-02-01", False),
        ("2026-W06-1", False),
        ("2026-02-30T08:00:00Z", False),
    ],
)
def test_only_a_moment_that_has_come_is_believed(
    server: BulkServer, place: Path, pace: Pace, moment: str, is_believed: bool
) -> None:
    server.moment = moment
    if is_believed:
        export(ExportRequest(server.base), place, NOW, pace=pace)
        assert last_whole_day(covered_until(place)) in (date(2026, 1, 31), date(2026, 5, 28))
    else:
        with pytest.raises(SourceError, match="a moment with its zone that has come"):
            export(ExportRequest(server.base), place, NOW, pace=pace)
        assert not place.exists()


@pytest.mark.parametrize(
    "odd", [{"count": 2.0}, {"count": "2"}, {"count": -1}, {"count": None}, {"type": None}, {"type": "../../x"}]
)
def test_an_oddity_of_one_file_is_no_fault_of_the_others(
    server: BulkServer, place: Path, pace: Pace, odd: dict[str, object]
) -> None:
    export(ExportRequest(server.base, types=("Patient", "Condition")), place, NOW, pace=pace)
    made = server.manifest(0)
    made["output"] = [{**made["output"][0], **odd}, made["output"][2]]
    server.fail("status", Answer(200, body=json.dumps(made).encode()))
    told: list[str] = []
    export(
        ExportRequest(server.base, types=("Patient", "Condition")), place, NOW, full=True, pace=pace, tell=told.append
    )
    (folder,) = place.glob("0002-*")
    if "type" in odd:  # what it holds, nobody can say: so records may be missing
        assert "of no FHIR type: 1" in told[0]
        assert folder.name == "0002-partial"
        assert (folder / "Patient.000.ndjson").read_bytes() == patients("c")
    else:
        assert folder.name == "0002-full"
        assert (folder / "Patient.000.ndjson").read_bytes() == patients("a", "b")
        assert (folder / "Patient.001.ndjson").read_bytes() == patients("c")


def test_a_failed_export_leaves_the_last_good_state_and_says_what_is_missing(
    server: BulkServer, place: Path, pace: Pace
) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = contents(place)
    server.output = [*server.output, ("Patient", patients("d"))]
    server.drops[2] = [5, 5, 5, 5]  # the second file of patients never comes further
    with pytest.raises(SourceError, match=r"Missing are 1 of 4 files \(1 of Patient\)"):
        export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert contents(place) == before
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert len(server.asked("kickoff")) == 2  # the second was gone on with
    assert (place / "0002-full" / "Patient.002.ndjson").read_bytes() == patients("d")
