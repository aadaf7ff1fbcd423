"""No name, number, date or free text that could point to a person leaves the door."""

import logging
from base64 import b64encode
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from features.home import Home
from features.ingest import ingest
from features.settings import RecordSettings, StudySettings
from tests.features.privacy.canaries import Planted, leaks, leaks_in_text, leaks_in_values
from tests.features.privacy.planted_folder import write_planted
from tests.features.privacy.written_files import contents_of

TOLERANT = StudySettings(records=RecordSettings(quarantine_share_limit=1.0))


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "key" / "key"
    path.parent.mkdir()
    path.write_text("5e" * 32 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    return path


def test_every_canary_is_in_the_source(tmp_path: Path) -> None:
    planted = write_planted(tmp_path)
    everything = b"".join(path.read_bytes() + str(path).encode() for path in tmp_path.rglob("*") if path.is_file())
    for form in (*planted.words, *planted.numbers, *(day.isoformat() for day in planted.days)):
        hidden = any(b64encode(b"x" * offset + form.encode())[4:-4] in everything for offset in range(3))
        assert form.encode() in everything or hidden, form


def test_the_search_finds_what_it_should() -> None:
    planted = Planted()
    word = planted.word("a word")
    planted.number("a number", "908-17-2634")
    planted.number("a decimal", "42.534202")
    planted.day("a day", "1998-05-06")
    planted.moment("a moment", "1999-05-06T09:47:13+00:00")
    texts = {
        f"x{word.upper()}x": "a word",
        word[:-1]: "a planted word, cut short",
        b64encode(f"Mrs {word}".encode()).decode(): "a planted word, in base64",
        "908172634": "a number",
        "on 06.05.1998.": "a day",
        "19980506": "a day",
        "925984033000": "a moment, as seconds since 1970",
    }
    for text, place in texts.items():
        assert place in list(leaks_in_text(planted, text.encode())), text
    assert list(leaks_in_text(planted, b"219980506 and 1998-05-07")) == []
    assert list(leaks_in_values(planted, [{"at": [datetime(1998, 5, 6, 12)]}, date(1998, 5, 6)])) == ["a day"]
    assert list(leaks_in_values(planted, [42.5342, 42.6])) == ["a decimal"]


def test_nothing_planted_passes_the_ingest(
    tmp_path: Path, key_file: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = write_planted(tmp_path / "source")
    home = Home(tmp_path / "home")
    result = ingest(tmp_path / "source", home, TOLERANT)
    assert result.subjects == 2
    assert result.records_quarantined > 15

    printed = capfd.readouterr()
    contents = [
        *contents_of(home.path),
        ("what was printed", (printed.out + printed.err).encode()),
        ("the log", "\n".join(record.getMessage() + str(record.exc_text) for record in caplog.records).encode()),
        ("the result", repr(result).encode()),
    ]
    assert leaks(planted, contents) == []


def test_no_time_keeps_the_seconds_that_are_a_fingerprint(tmp_path: Path, key_file: Path) -> None:
    write_planted(tmp_path / "source")
    home = Home(tmp_path / "home")
    ingest(tmp_path / "source", home, TOLERANT)
    events = pl.concat([pl.read_parquet(path) for path in (home.meds / "data").rglob("*.parquet")])
    times = pl.concat([events["time"], events["known_time"]]).drop_nulls()
    assert times.len() > 0
    assert (times.dt.second() == 0).all()
    assert (times.dt.microsecond() == 0).all()
