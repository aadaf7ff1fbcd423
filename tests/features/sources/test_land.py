"""Every source ends as a folder of files; the same request twice lands once, and news from a server always."""

import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType

import pytest

from features.home import Home
from features.ingest import ingest
from features.publishing import alone_in
from features.settings import StudySettings
from features.sources.choice import source_named
from features.sources.folder import example_patients
from features.sources.land import folder_of, land, last_stated_day
from features.sources.landed import (
    Manifest,
    changed_files,
    landed_file,
    last_whole_day,
    read_manifest,
    write_manifest,
)
from tests.features.sources.stand_in import put_java_in_place
from tests.synthetic_records import write_records

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int | None]]:
    """In the simulator's place, the little population of the tests; the list of what was simulated."""
    made: list[tuple[int, int, int | None]] = []

    def simulate(folder: Path, patients: int, seed: int, processes: int | None, format: str) -> Manifest:
        made.append((patients, seed, processes))
        assert list(folder.iterdir()) == []
        write_records(folder, patients, seed)
        files = tuple(landed_file(path, path.stem) for path in sorted(folder.iterdir()))
        said: dict[str, str | int] = {"patients": patients, "seed": seed, "version": module.VERSION, "format": format}
        return Manifest("simulated", "the simulator", "2026-03-01", files, "2024-07-01T00:00:00Z", parameters=said)

    module = ModuleType("features.sources.simulation")
    module.VERSION, module.simulate = "1", simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_a_folder_and_the_examples_are_left_where_they_are(home: Home, tmp_path: Path) -> None:
    assert land(source_named(str(tmp_path), {}), home, 1, NOW) == tmp_path
    assert land(source_named("examples", {}), home, 1, NOW) == example_patients()
    assert list(home.path.iterdir()) == []


def test_the_simulated_population_is_landed_once(home: Home, simulated: list[tuple[int, int, int | None]]) -> None:
    source = source_named("", {"patients": "4"})
    folder = land(source, home, 1, NOW, processes=2)
    assert folder == folder_of(source, home) == home.path / "landed" / "simulated"
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.parameters == {"patients": 4, "seed": 1, "version": "1", "format": "ndjson"}
    land(source, home, 1, NOW, processes=1)
    assert simulated == [(4, 1, 2)]
    land(source_named("", {"patients": "4", "format": "bundles"}), home, 1, NOW, processes=1)
    assert simulated == [(4, 1, 2), (4, 1, 1)]  # written otherwise: landed anew
    land(source, home, 1, NOW, processes=2)
    assert read_manifest(folder) == manifest


def test_other_people_or_a_newer_simulator_are_landed_anew(
    home: Home, simulated: list[tuple[int, int, int | None]]
) -> None:
    source = source_named("", {"patients": "4"})
    folder = land(source, home, 1, NOW)
    land(source, home, 2, NOW)
    land(source_named("", {"patients": "5"}), home, 2, NOW)
    sys.modules["features.sources.simulation"].VERSION = "2"  # type: ignore[attr-defined]
    land(source_named("", {"patients": "5"}), home, 2, NOW)
    (folder / "Patient.ndjson").write_text("")
    land(source_named("", {"patients": "5"}), home, 2, NOW)
    assert len(simulated) == 5


def test_what_is_landed_is_for_its_owner_alone(home: Home, simulated: list[tuple[int, int, int | None]]) -> None:
    folder = land(source_named("", {"patients": "4"}), home, 1, NOW)
    assert (folder.stat().st_mode | home.landed.stat().st_mode) & 0o077 == 0


def test_two_landings_at_once_are_refused(home: Home, simulated: list[tuple[int, int, int | None]]) -> None:
    with alone_in(home), pytest.raises(Exception, match="Another run"):
        land(source_named("", {"patients": "4"}), home, 1, NOW)
    assert simulated == []


def test_synthea_gets_what_was_typed(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_java_in_place(tmp_path, monkeypatch)
    options = {"patients": "3", "state": "Utah", "city": "Salt Lake City"}
    manifest = read_manifest(land(source_named("synthea", options), home, 9, NOW))
    assert manifest is not None
    asked = {name: manifest.parameters[name] for name in ("patients", "seed", "state", "city")}
    assert asked == {"patients": 3, "seed": 9, "state": "Utah", "city": "Salt Lake City"}


def test_a_server_is_asked_each_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[dict[str, object], Path, datetime, bool]] = []
    module = ModuleType("features.sources.bulk_export")
    module.ExportRequest = dict  # type: ignore[attr-defined]
    module.export = lambda request, place, now, full, tell: asked.append((request, place, now, full))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = source_named(
        "https://fhir.example.org",
        {"types": "Patient,Encounter", "client_key": "/k", "scope": "system/*.read", "full": "True"},
    )
    place = land(source, home, 1, NOW)
    land(source_named("https://fhir.example.org", {}), home, 1, NOW)
    named = {"base_url": "https://fhir.example.org", "token_url": None, "client_id": None}
    assert asked == [
        (
            {**named, "types": ("Patient", "Encounter"), "key_path": Path("/k"), "scope": "system/*.read"},
            place,
            NOW,
            True,
        ),
        ({**named, "types": (), "key_path": None, "scope": None}, place, NOW, False),
    ]


def test_until_when_a_source_covers_is_asked_of_those_who_know(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("features.sources.export_landing")
    module.covered_until = lambda place: "2026-03-01T02:30:00Z" if place == home.landed / "fhir_server" else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert last_stated_day(source_named("https://fhir.example.org", {}), home) == date(2026, 2, 28)
    folder = source_named(str(tmp_path), {})
    assert last_stated_day(folder, home) is None
    write_manifest(tmp_path, Manifest("simulated", "", "", (), "2025-12-31"))
    assert last_stated_day(folder, home) == date(2025, 12, 31)


@pytest.mark.parametrize(
    ("covers_until", "day"),
    [
        (None, None),
        ("2025-12-31", date(2025, 12, 31)),
        ("2026-01-01T00:00:00Z", date(2025, 12, 31)),
        ("2025-12-31T23:59:59Z", date(2025, 12, 31)),
        ("2026-03-01T02:30:00.123Z", date(2026, 2, 28)),  # the first of March has only begun
        ("2026-03-01T02:30:00+05:00", date(2026, 2, 27)),  # half past nine the evening before, by UTC
    ],
)
def test_the_last_day_that_is_covered_to_its_end(covers_until: str | None, day: date | None) -> None:
    assert last_whole_day(covers_until) == day


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    files = []
    for name in ("Patient", "Encounter", "Observation"):
        (tmp_path / f"{name}.ndjson").write_text('{"id": "1"}\n')
        files.append(landed_file(tmp_path / f"{name}.ndjson", name))
    manifest = Manifest("simulated", "", "", tuple(files))
    assert changed_files(tmp_path, manifest) == []
    (tmp_path / "Patient.ndjson").write_text('{"id": "2"}\n')
    (tmp_path / "Encounter.ndjson").unlink()
    assert changed_files(tmp_path, manifest) == ["Patient.ndjson", "Encounter.ndjson"]


@pytest.mark.parametrize(
    ("kind", "as_synthea", "told"),
    [
        ("simulated", False, "simulated"),
        ("synthea", True, "synthea"),
        ("fhir_server", False, "fhir_server"),
        ("fhir_server", True, "synthea"),  # a server may hold Synthea's patients, who are not real people
        (None, False, "fhir"),
        (None, True, "synthea"),
    ],
)
@pytest.mark.parametrize("is_below", [False, True])
def test_results_say_what_the_records_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, as_synthea: bool, told: str, is_below: bool
) -> None:
    """Also where the landed folders lie below the one that is read."""
    (tmp_path / "key").write_text("5e" * 32)
    os.chmod(tmp_path / "key", 0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(tmp_path / "key"))
    folder = tmp_path / "records" / "0001-full" if is_below else tmp_path / "records"
    write_records(folder, 3, seed=1, as_synthea=as_synthea)
    if kind is not None:
        write_manifest(folder, Manifest(kind, "somewhere", "2026-03-01", ()))
    assert ingest(tmp_path / "records", Home(tmp_path / "home"), StudySettings(), processes=1).source_kind == told
