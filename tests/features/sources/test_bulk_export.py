"""What an export leaves on disk: whole, added to or replaced as the server's news demands, and nothing secret."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from features.errors import SourceError
from features.privacy.rules import load_rules
from features.sources.bulk_export import ExportRequest, export
from features.sources.export_landing import covered_until
from features.sources.landed import Manifest, read_manifest
from features.sources.patience import Pace
from tests.features.sources.bulk_server import MOMENT, BulkServer, conditions, patients

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DELETION = (
    b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}]}\n'
)
LATER = "2026-04-01T08:00:00.000Z"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def manifest_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def exports(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def sinces(server: BulkServer) -> list[str | None]:
    """The `_since` of each kick-off."""
    return [parse_qs(urlsplit(one.path).query).get("_since", [None])[0] for one in server.asked("kickoff")]


def test_files_are_landed_with_a_manifest(server: BulkServer, place: Path, pace: Pace) -> None:
    assert export(ExportRequest(server.base), place, NOW, pace=pace) == place
    folder = place / "0001-full"
    assert exports(place) == ["0001-full"]
    assert (folder / "Patient.000.ndjson").read_bytes() == patients("a", "b")
    assert (folder / "Patient.001.ndjson").read_bytes() == patients("c")
    assert (folder / "Condition.000.ndjson").read_bytes() == conditions("x", "y")
    manifest = manifest_of(folder)
    assert (manifest.kind, manifest.origin, manifest.covers_until) == ("fhir_server", server.base, MOMENT)
    assert (manifest.made_at, manifest.since) == ("2026-03-02T00:00:00+00:00", None)
    assert {file.name: file.resources for file in manifest.files} == {
        "Patient.000.ndjson": 2,
        "Condition.000.ndjson": 2,
        "Patient.001.ndjson": 1,
    }
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(file.name for file in manifest.files), "manifest.json"]
    )


def test_only_the_owner_may_look_and_nothing_else_stays(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "0001-full").stat().st_mode) == 0o700
    assert sorted(path.name for path in place.parent.iterdir()) == [".fhir_server.lock", "fhir_server"]
    assert len(server.asked("cancel")) == 1  # the server may throw its files away


def test_the_request_is_that_of_bulk_data(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    kick_off = server.asked("kickoff")[0]
    query = parse_qs(urlsplit(kick_off.path).query)
    assert query == {"_outputFormat": ["application/fhir+ndjson"], "_type": [",".join(sorted(load_rules().elements))]}
    assert (kick_off.headers["Prefer"], kick_off.headers["Accept"]) == ("respond-async", "application/fhir+json")


@pytest.mark.parametrize("level", ["", "/Patient", "/Group/ward-7"])
@pytest.mark.parametrize("ending", ["", "/", "/$export"])
def test_the_address_says_the_level(server: BulkServer, place: Path, pace: Pace, level: str, ending: str) -> None:
    server.is_relative = True
    export(ExportRequest(f"{server.base}{level}{ending}", types=("Patient",)), place, NOW, pace=pace)
    asked = urlsplit(server.asked("kickoff")[0].path)
    assert asked.path == f"/fhir{level}/$export"
    assert parse_qs(asked.query)["_type"] == ["Patient"]
    assert manifest_of(place / "0001-full").origin == f"{server.base}{level}"
    assert manifest_of(place / "0001-full").parameters["level"] == (level[1:] or "system")


@pytest.mark.parametrize(
    "address", ["server/fhir", "https://me:PASSWORD@server/fhir", "https://server/fhir?token=PASSWORD", "https:///fhir"]
)
def test_an_odd_address_is_refused_without_being_shown(address: str, place: Path) -> None:
    with pytest.raises(SourceError, match="https://server/fhir") as problem:
        export(ExportRequest(address), place, NOW)
    assert "PASSWORD" not in str(problem.value)


def test_records_travel_by_https_only(place: Path) -> None:
    with pytest.raises(SourceError, match="https only"):
        export(ExportRequest("http://hospital.example/fhir"), place, NOW)


def test_a_later_export_asks_for_changes_and_is_added(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.changes, server.moment = [("Patient", patients("d"))], LATER
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert sinces(server) == [None, MOMENT]
    assert exports(place) == ["0001-full", "0002-since"]
    assert (place / "0002-since" / "Patient.000.ndjson").read_bytes() == patients("d")
    assert (manifest_of(place / "0002-since").since, covered_until(place)) == (MOMENT, LATER)


def test_deletions_are_landed_as_they_are(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.changes, server.deleted, server.moment = [], [DELETION], LATER
    export(ExportRequest(server.base), place, NOW, pace=pace)
    manifest = manifest_of(place / "0002-since")
    assert [(file.name, file.resource_type, file.resources) for file in manifest.deleted] == [
        ("deleted.000.ndjson", "Bundle", 1)
    ]
    assert manifest.files == ()
    assert (place / "0002-since" / "deleted.000.ndjson").read_bytes() == DELETION


def test_no_news_changes_nothing_but_the_next_question(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = contents(place)
    server.changes, server.moment = [], LATER
    told: list[str] = []
    export(ExportRequest(server.base), place, NOW, pace=pace, tell=told.append)
    assert contents(place) == {**before, ".asked_until": LATER.encode()}
    assert "Unchanged" in told[-1]
    server.changes = [("Patient", patients("d"))]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert sinces(server) == [None, MOMENT, LATER]
    assert manifest_of(place / "0002-since").since == LATER


def test_a_full_export_of_the_same_is_unchanged(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = (place / "0001-full").stat().st_ino, contents(place / "0001-full")
    # The same lines, otherwise ordered and spread over files.
    server.output = [("Condition", conditions("y", "x")), ("Patient", patients("c", "b", "a"))]
    server.moment = LATER
    told: list[str] = []
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace, tell=told.append)
    assert ((place / "0001-full").stat().st_ino, contents(place / "0001-full")) == before
    assert exports(place) == ["0001-full"]
    assert "Unchanged" in told[-1]


def test_a_full_export_that_differs_replaces_all(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.changes = [("Patient", patients("d"))]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.output = [("Patient", patients("a", "d"))]
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert sinces(server)[-1] is None
    assert exports(place) == ["0003-full"]
    assert (place / "0003-full" / "Patient.000.ndjson").read_bytes() == patients("a", "d")


def test_a_full_export_that_says_all_that_was_added_is_unchanged(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.changes = [("Patient", patients("d"))]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.output = [*server.output, ("Patient", patients("d"))]
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert exports(place) == ["0001-full", "0002-since"]


def test_what_was_deleted_and_came_back_is_news(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.changes, server.deleted = [], [DELETION]
    export(ExportRequest(server.base), place, NOW, pace=pace)
    server.deleted = []
    export(ExportRequest(server.base), place, NOW, full=True, pace=pace)  # the same lines as the first
    assert exports(place) == ["0003-full"]


@pytest.mark.parametrize("what", ["types", "level", "server"])
def test_another_request_is_answered_in_full(server: BulkServer, place: Path, pace: Pace, what: str) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    with BulkServer(output=server.output) as second:
        other = {
            "types": ExportRequest(server.base, types=("Patient", "Condition")),
            "level": ExportRequest(f"{server.base}/Patient"),
            "server": ExportRequest(second.base),
        }[what]
        export(other, place, NOW, pace=pace)
        assert sinces(second if what == "server" else server)[-1] is None
    assert exports(place) == ["0002-full"]
    assert manifest_of(place / "0002-full").origin == other.origin


def test_types_not_asked_for_are_not_fetched(server: BulkServer, place: Path, pace: Pace) -> None:
    told: list[str] = []
    export(ExportRequest(server.base, types=("Patient",)), place, NOW, pace=pace, tell=told.append)
    assert {file.resource_type for file in manifest_of(place / "0001-full").files} == {"Patient"}
    assert len(server.asked("file")) == 2
    assert "The server also offered Condition, not asked for and not fetched." in told


def test_types_that_did_not_come_are_named(server: BulkServer, place: Path, pace: Pace) -> None:
    told: list[str] = []
    export(ExportRequest(server.base, types=("Patient", "Device")), place, NOW, pace=pace, tell=told.append)
    assert "The server exported no Device." in told


def test_a_full_export_of_nothing_replaces_nothing(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    before = contents(place)
    server.output = [("Patient", b"")]
    with pytest.raises(SourceError, match=r"no record at all.*last good state"):
        export(ExportRequest(server.base), place, NOW, full=True, pace=pace)
    assert contents(place) == before


def test_a_proxy_is_not_asked_for_this_machine(
    server: BulkServer, place: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # nobody listens there
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert exports(place) == ["0001-full"]


def test_a_lost_manifest_is_told(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    (place / "0001-full" / "manifest.json").unlink()
    with pytest.raises(SourceError, match="lost its manifest"):
        export(ExportRequest(server.base), place, NOW, pace=pace)


def test_signed_addresses_are_not_written_down(server: BulkServer, place: Path, pace: Pace) -> None:
    export(ExportRequest(server.base), place, NOW, pace=pace)
    assert all("SECRET" in one.path for one in server.asked("file"))
    assert "SECRET" not in json.dumps({name: text.decode() for name, text in contents(place.parent).items()})
