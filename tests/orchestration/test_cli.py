"""The sequela command: answers, and one clear message with an exit code when it cannot."""

import errno
import json
import socket
from datetime import date

import pytest

from features.errors import SequelaError, SourceError
from features.privacy.keys import load_key
from features.privacy.vault import FILES, seal
from orchestration import commands
from orchestration.cli import main
from orchestration.resources import PROJECT_STUDY_FILE, Study
from orchestration.warehouse import publish_warehouse
from tests.orchestration.small_home import write_small_home


@pytest.fixture(autouse=True)
def key_of_the_test(monkeypatch, tmp_path):
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(key))
    monkeypatch.delenv("SEQUELA_HOME", raising=False)


@pytest.fixture
def home(tmp_path):
    return write_small_home(tmp_path / "home")


def test_sql_prints_an_answer(home, capsys):
    publish_warehouse(home)
    assert (
        main(
            [
                "sql",
                "SELECT count(*) AS blood_pressures FROM events WHERE code LIKE 'LOINC%'",
                "--home",
                str(home.path),
            ]
        )
        == 0
    )
    answer = capsys.readouterr().out
    assert "blood_pressures" in answer
    assert "1" in answer


def test_the_home_may_come_from_the_environment(home, monkeypatch, capsys):
    publish_warehouse(home)
    monkeypatch.setenv("SEQUELA_HOME", str(home.path))
    assert main(["sql", "SHOW TABLES"]) == 0
    assert "risk_scores" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (["sql", "FROM events"], "sequela run"),
        (["score", "--as-of", "2021-04-01"], "sequela run"),
        (["features"], "sequela run"),
        (["features", "--as-of", "2021-04-01"], "sequela run"),
        (["features", "--out", "no/such/folder/f.parquet"], "Name another file"),
        (["vault", "file", "file_1"], "sequela run"),
        (["run", "--from", "no-such-folder"], "--from understands"),
        (["run", "--from", ""], "--from is empty"),
        (["ui", "--port", "99999"], "Port 99999"),
        (["run", "--seed", "-1"], "seed: Input should be greater than or equal to 0"),
        (["run", "--seed", "9" * 30], "seed: Input should be less than"),
        (["run", "--from", ".", "--patients", "5"], "leave it out"),
        (["run", "--from", "examples", "--state", "Utah"], "leave it out"),
        (["run", "--client-id", "me"], "--client-id is for a FHIR server"),
        (["run", "--from", "https://me:pw@fhir.example.org"], "would be written down"),
        (["run", "--study", "no-such-study.toml"], "no-such-study.toml"),
    ],
)
def test_what_a_person_can_put_right_ends_in_one_message(arguments, next_step, tmp_path, capsys):
    assert main([*arguments, "--home", str(tmp_path / "empty")]) == 2
    message = capsys.readouterr().err
    assert next_step in message
    assert "Traceback" not in message


def test_a_hospitals_records_are_not_replaced_by_simulated_ones_unless_somebody_says_so(tmp_path, monkeypatch, capsys):
    class Reached(Exception):
        pass

    def reach(*_):
        raise Reached

    monkeypatch.setattr(commands, "_sole_use", reach)
    run = ["run", "--home", str(tmp_path)]
    for last, asked_again in ((None, False), ("examples", False), ("/data/ours", True), ("https://ehr.org/fhir", True)):
        if last:
            (tmp_path / "last_run.json").write_text(json.dumps({"source": last}))
        assert main(run) == (2 if asked_again else 1)
        assert (f"holds records from {last}" in capsys.readouterr().err) == asked_again
        assert main([*run, "--from", "simulated"]) == 1  # goes on
    (tmp_path / "last_run.json").write_text(json.dumps({"source_folder": "/data/ours"}))  # of version 0.1.0
    assert main(run) == 2


def test_a_taken_port_is_refused(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["ui", "--port", str(taken.getsockname()[1]), "--home", str(tmp_path / "home")]) == 2
    assert "Choose another: --port" in capsys.readouterr().err


def test_a_wrong_question_is_explained(home, capsys):
    publish_warehouse(home)
    assert main(["sql", "SELECT nothing FROM nowhere", "--home", str(home.path)]) == 2
    assert "SHOW TABLES" in capsys.readouterr().err


@pytest.mark.parametrize(("day", "reason"), [("2021-06-01", "newer export"), ("2001-01-01", "before the first day")])
def test_a_day_out_of_reach_is_refused(home, day, reason, capsys):
    for command in ("score", "features"):
        assert main([command, "--as-of", day, "--home", str(home.path)]) == 2
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file", "file/home", "/proc/sequela-home"])  # no folder, not even for root
def test_a_home_that_cannot_be_made_is_refused(tmp_path, capsys, place):
    (tmp_path / "file").touch()
    assert main(["run", "--home", str(tmp_path / place)]) == 2
    assert "another --home" in capsys.readouterr().err


@pytest.mark.parametrize(("found", "named"), [("/usr/bin/sequela", "`sequela run"), (None, "bin/sequela run")])
def test_a_message_names_commands_as_they_can_be_typed(tmp_path, monkeypatch, capsys, found, named):
    """`make` installs the command into .venv/bin, which is on nobody's PATH."""
    monkeypatch.setattr("orchestration.summary.shutil.which", lambda _: found)
    assert main(["sql", "FROM events", "--home", str(tmp_path)]) == 2
    assert f"{named} --home {tmp_path}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (SourceError("Name another folder."), 2, "Name another folder."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "disk is full or"),
        (RuntimeError("IO Error: Could not write file: No space left on device"), 2, "disk is full or"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), 2, "disk is full or"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/Doe_Jane.json"), 2, "in /data may not be read"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "Change who may"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ZeroDivisionError("division by zero"), 1, "Traceback"),
    ],
)
def test_exit_codes(error, exit_code, words, monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(commands, "_sole_use", fail)
    assert main(["run", "--home", str(tmp_path)]) == exit_code
    assert words in capsys.readouterr().err


def test_an_error_inside_another_is_found(monkeypatch, tmp_path, capsys):
    def fail(*_):
        try:
            raise SourceError("Name another folder.")
        except SourceError as error:
            raise RuntimeError("a wrapper") from error

    monkeypatch.setattr(commands, "_sole_use", fail)
    assert main(["run", "--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "Name another folder.\n"


def test_a_study_file_is_found_again_from_another_folder(tmp_path, monkeypatch):
    """Named as it lies beside the person, remembered as a whole path."""
    (tmp_path / "my.toml").write_text("lookback_days = 365\n")
    (tmp_path / "elsewhere").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    Study(home_folder=str(home), study_file="my.toml").remember_choices()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Study(home_folder=str(home)).settings.lookback_days == 365
    (tmp_path / "my.toml").unlink()
    with pytest.raises(SequelaError, match=r"no study file .*my\.toml any longer.*sequela run --study FILE"):
        _ = Study(home_folder=str(home)).settings


def test_the_projects_own_study_file_may_move_with_the_project(tmp_path):
    study = Study(home_folder=str(tmp_path), study_file=str(PROJECT_STUDY_FILE))
    study.remember_choices()
    assert str(PROJECT_STUDY_FILE) not in (tmp_path / "last_run.json").read_text()
    assert Study(home_folder=str(tmp_path)).settings == study.settings


def test_a_second_run_waits_its_turn(home, capsys):
    with commands._sole_use(home):
        assert main(["score", "--as-of", str(date(2021, 4, 1)), "--home", str(home.path)]) == 2
    assert "Another run" in capsys.readouterr().err


def test_the_vault_names_a_quarantined_file(home, capsys):
    import polars as pl

    files = pl.DataFrame({"file": ["file_12"], "path": ["ward/7.ndjson"]}, schema=FILES)
    seal(load_key(), files, home.vault / "files.vault")
    assert main(["vault", "file", "file_12", "--home", str(home.path)]) == 0
    assert capsys.readouterr().out == "ward/7.ndjson\n"
    assert main(["vault", "record", "x", "--home", str(home.path)]) == 2
