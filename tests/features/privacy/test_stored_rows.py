"""What is kept for the next reading gives nobody away: not while a reading goes on, not afterwards, not to a thief."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from features import ingest as ingest_module
from features.home import Home
from features.ingest import ingest
from features.privacy.keys import load_key
from features.privacy.vault import unseal, unseal_tables
from features.settings import RecordSettings, StudySettings
from tests.features.privacy.canaries import Planted, leaks
from tests.features.privacy.planted_folder import write_planted
from tests.features.privacy.written_files import contents_of

TOLERANT = StudySettings(records=RecordSettings(quarantine_share_limit=1.0))
SEAL = b"sequela vault 1\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    path = tmp_path / "key" / "key"
    path.parent.mkdir()
    path.write_text("5e" * 32 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    return write_planted(tmp_path / "source")


def test_what_lies_about_in_the_middle_of_a_reading_is_sealed(
    tmp_path: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that is killed leaves its workroom until the next one clears it away."""
    home = Home(tmp_path / "home")
    found: list[str] = []
    sealed: list[bool] = []
    write_dataset = ingest_module.write_dataset

    def look_and_go_on(*arguments):  # type: ignore[no-untyped-def]
        found.extend(leaks(planted, contents_of(home.path)))
        sealed.extend(path.read_bytes().startswith(SEAL) for path in home.path.rglob("*.records.vault"))
        return write_dataset(*arguments)

    monkeypatch.setattr(ingest_module, "write_dataset", look_and_go_on)
    ingest(tmp_path / "source", home, TOLERANT)
    assert sealed
    assert all(sealed)
    assert found == []


def test_nothing_planted_is_kept_but_the_way_back(tmp_path: Path, planted: Planted) -> None:
    """Whoever opens the vault finds the ids and file names that lead back to the source, and the source's last day."""
    home = Home(tmp_path / "home")
    ingest(tmp_path / "source", home, TOLERANT)
    columns = {leak.rsplit(" in ", maxsplit=1)[1] for leak in leaks(planted, opened(home))}
    assert columns <= {
        "records-00000.vault records resource",
        "patients.vault patient",
        "ledger.vault patients patient",
        "files.vault path",
        "ledger.vault files name",
        "ledger.vault state state",
    }
    assert "records-00000.vault records resource" in columns


def opened(home: Home) -> Iterator[tuple[str, list[object]]]:
    for path in home.vault.iterdir():
        assert path.read_bytes().startswith(SEAL)
        is_single = path.name in ("patients.vault", "files.vault")
        tables = {"": unseal(load_key(), path)} if is_single else unseal_tables(load_key(), path)
        for name, table in tables.items():
            for column in table.columns:
                yield " ".join(filter(None, (path.name, name, column))), [column, *table[column].to_list()]
