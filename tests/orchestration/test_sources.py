"""From each source to the end by the command: what is read, what it is called, what is remembered, what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from types import ModuleType

import dagster as dg
import msgspec
import polars as pl
import pytest

from features.home import Home
from features.sources.landed import Manifest, landed_file, read_manifest, write_manifest
from orchestration.cli import main
from orchestration.defs.records import landed_records, the_server_exported_everything
from orchestration.launch import run_job
from orchestration.resources import Study
from orchestration.source_labels import source_label
from tests.features.sources.stand_in import PROJECT, put_java_in_place, runs
from tests.synthetic_records import write_records

STUDY = "bootstrap_resamples = 20\n"
LANDED_BEFORE = "2026-03-01T00:00:00+00:00"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "key").write_text("5e" * 32)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(tmp_path / "key"))
    return put_java_in_place(tmp_path, monkeypatch)


def run(folder: Path, *arguments: str) -> int:
    study = ["--study", str(folder / "study.toml"), "--home", str(folder / "home"), "--processes", "1"]
    return main(["run", *arguments, *study])


def landed_folder(folder: Path, kind: str = "simulated", covers_until: str | None = None) -> Path:
    """Records with a manifest, as a source leaves them."""
    records = folder / "landed before"
    write_records(records, 4, seed=2)
    files = tuple(landed_file(path, path.stem) for path in sorted(records.iterdir()))
    write_manifest(records, Manifest(kind, "tests", LANDED_BEFORE, files, covers_until))
    return records


@pytest.mark.slow
def test_synthea_from_end_to_end_and_once_only(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path, "--from", "synthea", "--patients", "12", "--seed", "4") == 0
    assert "Records: Synthea (synthetic patients, not real people)" in capsys.readouterr().out
    home = Home(tmp_path / "home")
    manifest = read_manifest(home.landed / "synthea")
    dataset = pl.read_parquet(home.tables / "dataset.parquet").row(0, named=True)
    assert manifest is not None
    assert dataset["records"] == sum(file.resources for file in manifest.files)
    assert (dataset["source_kind"], dataset["is_windowed"]) == ("synthea", False)  # the whole history was asked for
    assert dataset["covers_until"] == date(2025, 12, 31)
    assert json.loads((home.path / "last_run.json").read_text()) == {
        "source": "synthea",
        "source_options": {"patients": "12"},
        "study_file": str(tmp_path / "study.toml"),
        "seed": 4,
    }
    run_job("nightly_scores", {"home_folder": str(home.path)}, home, day="2024-06-30")
    assert len(runs(log)) == 1


def _events_of(home: Home) -> str:
    with dg.DagsterInstance.from_config(str(home.dagster), "command_line.yaml") as instance:
        return str([instance.all_logs(one) for one in instance.get_run_ids()])


@pytest.mark.slow
def test_simulated_records_are_called_so_everywhere(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = landed_folder(tmp_path, covers_until="2024-07-01T00:00:00Z")
    assert run(tmp_path, "--from", str(records)) == 0
    label = source_label("simulated")
    assert label == "a simulated population (made by Sequela's simulator; not real people)"
    told = capsys.readouterr().out
    assert f"Records: {label}" in told
    assert "left alone" not in told  # the manifest is no file that somebody forgot
    home = Home(tmp_path / "home")
    summary = json.loads(home.summary.read_text())
    page = (home.report / "index.html").read_text()
    assert summary["source"] == label
    assert summary["as_of"] == "2024-06-30"  # the last whole day that the source covers
    assert "simulated population" in page
    assert "Synthea" not in page
    assert "ynthetic" in page.split("<h2", 1)[0]  # the banner


@pytest.mark.slow
def test_a_landed_file_that_changed_stops_the_run_before_it_is_read(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    records = landed_folder(tmp_path)
    with (records / "Patient.ndjson").open("a") as file:
        file.write("\n")
    assert run(tmp_path, "--from", str(records)) == 2
    said = capsys.readouterr().err
    assert "landed files are whole" in said
    assert "1 of the files that were landed in" in said
    assert not (tmp_path / "home" / "meds").exists()


@pytest.mark.slow
def test_a_file_that_no_source_landed_is_noticed(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = landed_folder(tmp_path)
    shutil.copy(records / "Patient.ndjson", records / "more.ndjson")
    assert run(tmp_path, "--from", str(records)) == 2
    said = capsys.readouterr().err
    assert "every landed record was read" in said
    assert "Other files may lie in" in said


@pytest.mark.slow
def test_the_exports_of_a_server_add_up(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """An export lies in a folder of its own, with its own manifest; the next one beside it."""

    def export(request: dict[str, object], place: Path, now: datetime, full: bool, tell: Callable) -> Path:
        if not place.exists():
            shutil.copytree(landed_folder(tmp_path, "fhir_server"), place / "0001-full")
        else:
            news = place / "0002-since" / "Patient.ndjson"
            news.parent.mkdir()
            shutil.copy(place / "0001-full" / "Patient.ndjson", news)
            files = (landed_file(news, "Patient"),)
            write_manifest(
                news.parent,
                Manifest("fhir_server", "tests", now.isoformat(), files, "2024-07-02T04:00:00Z", since="2024-07-01"),
            )
        tell(f"exported from {request['base_url']}")
        return place

    for name, members in {
        "bulk_export": {"ExportRequest": dict, "export": export},
        "export_landing": {"covered_until": lambda _: "2024-07-02T04:00:00Z"},
    }.items():
        module = ModuleType(f"features.sources.{name}")
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    home = Home(tmp_path / "home")
    for exports in (1, 2):
        assert run(tmp_path, "--from", "https://fhir.example.org") == 0
        printed = capsys.readouterr()
        assert "Records: FHIR R4 records exported from a FHIR server" in printed.out
        assert "exported from https://fhir.example.org" in printed.err
        assert len(list((home.landed / "fhir_server").iterdir())) == exports
    assert pl.read_parquet(home.tables / "study_days.parquet")["last_day"].item() == date(2024, 7, 1)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STAND_IN": "exit"}, "no such place"),
        ({"STAND_IN": "old"}, "Java 17"),
        ({"SEQUELA_SYNTHEA_JAR": "/nowhere.jar"}, "SEQUELA_SYNTHEA_JAR"),
    ],
)
def test_what_goes_wrong_with_synthea_ends_in_one_message(
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(tmp_path, "--from", "synthea", "--patients", "3") == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert "Abe604" not in _events_of(Home(tmp_path / "home"))  # whom Synthea named on the terminal


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_landing_ends_java_and_exits_with_130(log: Path, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "orchestration.cli", "run", "--from", "synthea", "--patients", "3"]
    environment = os.environ | {"STAND_IN": "hangs", "PYTHONPATH": str(PROJECT), "DAGSTER_DISABLE_TELEMETRY": "1"}
    command += ["--home", str(tmp_path / "home")]
    landing = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert landing.stderr is not None
    for line in landing.stderr:
        if "Abe604" in line:
            break
    landing.send_signal(how)
    _, said = landing.communicate(timeout=60)
    assert landing.returncode == 130
    assert "Interrupted" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(runs(log)[-1][0]), 0)
    assert list((tmp_path / "home" / "landed").iterdir()) == []


@pytest.mark.parametrize(
    ("issues", "passed"),
    [
        ("error/processing: 3, warning/incomplete: 1", False),
        ("unreadable: 1", False),
        ("warning/x: 1", True),
        ("", True),
    ],
)
def test_what_a_server_could_not_export_is_seen_in_dagster(tmp_path: Path, issues: str, passed: bool) -> None:
    records = landed_folder(tmp_path, "fhir_server")
    manifest = read_manifest(records)
    assert manifest is not None
    write_manifest(records, msgspec.structs.replace(manifest, parameters={"issues": issues} if issues else {}))
    study = Study(home_folder=str(tmp_path / "home"), source=str(records))
    assets = [landed_records, the_server_exported_everything]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(assets, resources={"study": study}, instance=instance)
    assert result.success  # a warning stops nothing
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (passed, dg.AssetCheckSeverity.WARN)
    (landed,) = result.asset_materializations_for_node("landed_records")
    told = str(landed.metadata["issues"].value)
    assert told == (", ".join(one.partition(":")[0] for one in issues.split(", ")) or "none")
    assert ": 3" not in f"{told} {check.description}"  # a small number could point at somebody


def test_a_field_left_empty_takes_what_the_last_run_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert Study(home_folder=str(home)).chosen_source.kind == "simulated"
    given = {"types": "Patient", "full": "True"}
    Study(home_folder=str(home), source="https://fhir.example.org", source_options=given).remember_choices()
    last = Study(home_folder=str(home)).chosen_source
    assert (last.named, last.options) == ("https://fhir.example.org", {"types": "Patient"})  # all of it only that once
    again = Study(home_folder=str(home), source_options={"full": "True"}).chosen_source
    assert again.options == {"types": "Patient", "full": "True"}
    other = Study(home_folder=str(home), source="synthea").chosen_source
    assert other.options == {}  # nothing of the other source's


def test_a_home_of_the_first_version_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "last_run.json").write_text(json.dumps({"source_folder": "/usr", "study_file": "", "seed": 3}))
    study = Study(home_folder=str(tmp_path))
    assert (study.chosen_source.kind, study.records, study.settings.seed) == ("folder", Path("/usr"), 3)
