"""What the server could not export is told, replaces nothing, and is asked for again."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.bulk_export import ExportRequest, export
from features.sources.export_landing import covered_until
from features.sources.landed import read_manifest
from features.sources.patience import Pace
from tests.features.sources.bulk_server import MOMENT, Answer, BulkServer, conditions, outcome, patients
from tests.features.sources.test_bulk_export import DELETION, LATER, contents, exports, sinces

NOW = datetime(2026, 3, 2, tzinfo=UTC)
FAILED = outcome("error", "processing", "Jane Doe")
LATEST = "2026-05-01T08:00:00.000Z"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def exported(server: BulkServer, place: Path, pace: Pace, full: bool = False) -> list[str]:
    """What was told of an export."""
    told: list[str] = []
    request = ExportRequest(server.base, types=("Patient", "Condition"))
    export(request, place, NOW, full=full, pace=pace, tell=told.append)
    return told


def test_errors_are_counted_and_never_landed(server: BulkServer, place: Path, pace: Pace) -> None:
    server.errors = [FAILED * 2 + outcome("warning", "incomplete", "Jane Doe"), outcome("Jane Doe", "x y")]
    told = exported(server, place, pace)
    counted = "error/processing: 2, unknown/unknown: 1, warning/incomplete: 1"
    manifest = read_manifest(place / "0001-partial")
    assert manifest is not None
    assert manifest.parameters["issues"] == counted
    assert any("could not export everything" in one and counted in one for one in told)
    assert len(list((place / "0001-partial").iterdir())) == 4  # three files of records, the manifest
    assert not any(b"Jane" in text for text in contents(place).values())
    assert not any("Jane" in one for one in told)


@pytest.mark.parametrize("severity", ["warning", "information"])
def test_remarks_do_not_make_an_export_partial(server: BulkServer, place: Path, pace: Pace, severity: str) -> None:
    server.errors = [outcome(severity, "informational")]
    told = exported(server, place, pace)
    assert exports(place) == ["0001-full"]
    assert f"The server exported everything, with remarks: {severity}/informational: 1." in told
    exported(server, place, pace)
    assert sinces(server) == [None, MOMENT]


def test_a_full_export_with_errors_replaces_nothing(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    good = contents(place / "0001-full")
    server.output, server.errors, server.moment = [("Patient", patients("a", "new"))], [FAILED], LATER
    exported(server, place, pace, full=True)
    assert exports(place) == ["0001-full", "0002-partial"]
    assert contents(place / "0001-full") == good
    assert (place / "0002-partial" / "Patient.000.ndjson").read_bytes() == patients("a", "new")
    assert covered_until(place) == MOMENT  # of what is whole
    server.output, server.errors = [("Patient", patients("a", "new"))], []
    exported(server, place, pace, full=True)
    assert exports(place) == ["0003-full"]


@pytest.mark.parametrize("severity", ["error", "fatal"])
def test_what_failed_is_asked_for_again(server: BulkServer, place: Path, pace: Pace, severity: str) -> None:
    exported(server, place, pace)
    server.changes, server.moment = [], LATER
    exported(server, place, pace)  # no news
    server.changes, server.errors, server.moment = [("Patient", patients("d"))], [outcome(severity, "x")], LATEST
    exported(server, place, pace)
    exported(server, place, pace)  # the same errors
    assert exports(place) == ["0001-full", "0002-partial"]
    server.changes, server.errors = [("Patient", patients("d", "e"))], []
    exported(server, place, pace)
    assert exports(place) == ["0001-full", "0003-since"]  # it says all that the partial one said
    exported(server, place, pace)
    assert sinces(server) == [None, MOMENT, LATER, LATER, LATER, LATEST]


def test_a_first_export_with_errors_is_asked_for_again_in_full(server: BulkServer, place: Path, pace: Pace) -> None:
    server.errors = [FAILED]
    exported(server, place, pace)
    assert covered_until(place) == MOMENT
    exported(server, place, pace)
    assert exports(place) == ["0001-partial"]  # the same records, the same errors
    server.errors = []
    exported(server, place, pace)
    assert exports(place) == ["0002-full"]
    assert sinces(server) == [None, None, None]


def test_partial_exports_do_not_pile_up_and_take_nothing_away(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    server.errors = [FAILED]
    for changes in (patients("d"), patients("d", "e"), patients("e")):
        server.changes = [("Patient", changes)]
        exported(server, place, pace)
    # The second says all that the first said; the third does not, and what it lacks may only have failed.
    assert exports(place) == ["0001-full", "0003-partial", "0004-partial"]
    assert not list(place.parent.glob(".exporting*"))


def test_partial_exports_of_equal_length_that_say_other_things_all_stay(
    server: BulkServer, place: Path, pace: Pace
) -> None:
    exported(server, place, pace)
    server.errors = [FAILED]
    server.changes, server.deleted = [("Patient", patients("d"))], [DELETION]
    exported(server, place, pace)
    server.changes, server.deleted = [("Patient", patients("d"))], []  # the deletion is not said again
    exported(server, place, pace)
    server.changes = [("Patient", patients("f"))]
    exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-partial", "0003-partial", "0004-partial"]


def test_errors_without_a_record_are_landed_so_that_they_are_seen(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    server.changes, server.errors = [], [FAILED]
    exported(server, place, pace)
    manifest = read_manifest(place / "0002-partial")
    assert manifest is not None
    assert manifest.parameters["issues"] == "error/processing: 1"
    server.errors = []
    exported(server, place, pace)
    assert exports(place) == ["0001-full", "0003-since"]


def test_another_request_with_errors_replaces_nothing(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    before = contents(place)
    server.errors = [FAILED]
    with pytest.raises(SourceError, match=r"another address or other types.*or remove .*last good state stands"):
        export(ExportRequest(server.base, types=("Patient",)), place, NOW, pace=pace)
    assert contents(place) == before


def test_the_account_of_errors_may_be_out_of_order(server: BulkServer, place: Path, pace: Pace) -> None:
    server.errors, server.counts = [outcome("warning", "incomplete")], {3: 17}
    exported(server, place, pace)
    assert exports(place) == ["0001-full"]


@pytest.mark.parametrize("answer", [Answer(404), Answer(403), Answer(200, body=b"<html>\n")])
def test_an_account_of_errors_that_cannot_be_had_is_an_error(
    server: BulkServer, place: Path, pace: Pace, answer: Answer
) -> None:
    def spoil(position: int) -> None:
        """The account is asked for when all three files of records have come."""
        if len(server.asked("file")) == 3:
            server.fail("file", *[answer] * 4)

    server.errors, server.on_file = [FAILED], spoil
    told = exported(server, place, replace(pace, downloads_at_once=1))
    assert exports(place) == ["0001-partial"]
    assert any("unreadable: 1" in one for one in told)
    assert len(server.asked("kickoff")) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_deletions_are_counted_by_bundles_or_by_what_they_hold(
    server: BulkServer, place: Path, pace: Pace, count: int
) -> None:
    exported(server, place, pace)
    entry = b'{"request":{"method":"DELETE","url":"Patient/a"}}'
    server.changes, server.counts = [], {0: count}
    server.deleted = [DELETION.replace(b"[" + entry + b"]", b"[" + b",".join([entry] * 3) + b"]")]
    exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-since"]


def test_too_few_deletions_are_told(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    server.changes, server.counts, server.deleted = [], {0: 2}, [DELETION]
    with pytest.raises(SourceError, match=r"\(Bundle\): the server counts 2 resources, and 1 came, twice"):
        exported(server, place, pace)


def test_conditions_that_failed_stay(server: BulkServer, place: Path, pace: Pace) -> None:
    """All conditions are missing from the new full export, and the server says that something failed."""
    exported(server, place, pace)
    server.output, server.errors = [("Patient", patients("a", "b"))], [FAILED]
    exported(server, place, pace, full=True)
    assert (place / "0001-full" / "Condition.000.ndjson").read_bytes() == conditions("x", "y")
