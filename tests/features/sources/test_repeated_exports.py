"""A server that answers `_since` with everything replaces what was landed; one that has much to tell never does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.sources.bulk_export import ExportRequest, export
from features.sources.landed import landed_file, read_manifest
from features.sources.patience import Pace
from features.sources.repeats import find_repeats
from tests.features.sources.bulk_server import MOMENT, BulkServer, conditions, patients
from tests.features.sources.test_bulk_export import DELETION, LATER, exports, sinces

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TEN = [f"{number}" for number in range(10)]
FORTY = [f"{number}" for number in range(40)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def changed(lines: bytes) -> bytes:
    """The same records, each another than before."""
    return lines.replace(b"}\n", b',"language":"en"}\n')


def exported(server: BulkServer, place: Path, pace: Pace) -> list[str]:
    """What was told of an export."""
    told: list[str] = []
    export(ExportRequest(server.base, types=("Patient", "Condition")), place, NOW, pace=pace, tell=told.append)
    return told


def test_what_a_server_that_ignores_since_no_longer_has_goes(server: BulkServer, place: Path, pace: Pace) -> None:
    server.output = [("Patient", patients(*FORTY)), ("Condition", conditions(*FORTY))]
    exported(server, place, pace)
    server.output, server.moment = [("Patient", patients(*FORTY[1:])), ("Condition", conditions(*FORTY[2:]))], LATER
    told = exported(server, place, pace)  # neither patient 0 nor conditions 0 and 1
    assert sinces(server) == [None, MOMENT]
    assert exports(place) == ["0002-full"]
    assert (place / "0002-full" / "Patient.000.ndjson").read_bytes() == patients(*FORTY[1:])
    manifest = read_manifest(place / "0002-full")
    assert manifest is not None
    assert (manifest.since, manifest.covers_until) == (None, LATER)
    assert any(
        "`_since` with everything: 77 of 80 records that were landed came again unchanged" in one for one in told
    )


def test_nothing_adds_up_when_since_is_ignored(server: BulkServer, place: Path, pace: Pace) -> None:
    same = server.output = [("Patient", patients(*FORTY)), ("Condition", conditions(*FORTY))]
    for night in range(4):
        server.output = [*same, ("Patient", patients(f"new{night}"))]
        exported(server, place, pace)
    assert exports(place) == ["0004-full"]
    told = exported(server, place, pace)  # the same again
    assert exports(place) == ["0004-full"]
    assert "Unchanged" in told[-1]


def test_many_changes_are_added(server: BulkServer, place: Path, pace: Pace) -> None:
    """Every record but one was changed, and one is new: more came than in the full export."""
    server.output = [("Patient", patients(*TEN)), ("Condition", conditions(*TEN))]
    exported(server, place, pace)
    server.changes = [
        ("Patient", changed(patients(*TEN[1:])) + patients("new")),
        ("Condition", changed(conditions(*TEN))),
    ]
    told = exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-since"]
    assert not any("_since" in one for one in told)


def test_whole_records_of_most_patients_are_added(server: BulkServer, place: Path, pace: Pace) -> None:
    """Some servers that know `_since` send all about whoever was seen; of who was not, nothing may go."""
    server.output = [("Patient", patients(*TEN)), ("Condition", conditions(*TEN))]
    exported(server, place, pace)
    server.changes = [("Patient", patients(*TEN[:9])), ("Condition", conditions(*TEN[:9]) + conditions("new"))]
    told = exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-since"]
    assert any("18 of the 19 records that came had been landed before" in one for one in told)


def test_types_that_are_always_sent_whole_are_added(server: BulkServer, place: Path, pace: Pace) -> None:
    """The standard allows it where a server does not date changes; all other records must stay."""
    server.output = [("Patient", patients(*TEN)), ("Condition", conditions(*TEN))]
    exported(server, place, pace)
    server.changes = [("Condition", conditions(*TEN)), ("Patient", changed(patients(*TEN[:4])))]
    told = exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-since"]
    assert any("10 of the 14 records that came had been landed before" in one and "--full" in one for one in told)


def test_a_server_that_names_deletions_knows_since(server: BulkServer, place: Path, pace: Pace) -> None:
    exported(server, place, pace)
    server.output, server.deleted = [*server.output, ("Patient", patients("d"))], [DELETION]
    exported(server, place, pace)
    assert exports(place) == ["0001-full", "0002-since"]


@pytest.mark.parametrize(
    ("again", "are_everything"),
    [
        (patients(*FORTY[:38]) + conditions(*FORTY[2:]), True),  # 38 of 40 are 95 %
        (patients(*FORTY[::-1], "0") + conditions(*FORTY[1:]) + changed(conditions("0")), True),  # otherwise, and twice
        (patients(*FORTY[:37]) + conditions(*FORTY), False),
        (changed(patients(*FORTY)) + conditions(*FORTY), False),
        (patients(*FORTY), False),  # no condition
    ],
)
def test_nearly_all_of_each_type_is_everything(tmp_path: Path, again: bytes, are_everything: bool) -> None:
    def files(name: str, text: bytes) -> list:
        """One file for each type that there is."""
        found = []
        for kind in ("Patient", "Condition"):
            path = tmp_path / f"{name} {kind}"
            path.write_bytes(b"\r\n".join(line for line in text.splitlines() if kind.encode() in line))
            found.append((landed_file(path, kind), path))
        return [one for one in found if one[0].resources]

    before = files("before", patients(*FORTY) + conditions(*FORTY))
    assert find_repeats(before, files("after", again)).are_everything == are_everything
