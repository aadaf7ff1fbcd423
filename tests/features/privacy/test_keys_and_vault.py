"""The key: where it lies, who may read it. The vault: opens with its own key alone."""

import stat

import polars as pl
import pytest

from features.errors import KeyFileError
from features.privacy import vault
from features.privacy.keys import derive_keys, load_key


def test_a_key_is_made_once_for_the_owner_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("SEQUELA_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = load_key()
    path = tmp_path / "sequela" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key() == first
    assert path.read_text().strip() not in repr(first)


def test_a_key_that_others_can_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("ab" * 32)
    path.chmod(0o644)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key()


@pytest.mark.parametrize("content", ["", "ab" * 31, "not hexadecimal"])
def test_a_malformed_key_is_refused(tmp_path, monkeypatch, content):
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    with pytest.raises(KeyFileError, match=r"64 hexadecimal digits.*openssl rand -hex 32") as refused:
        load_key()
    assert not content or content not in str(refused.value)


def test_a_named_key_that_is_absent_is_not_made_up(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(KeyFileError, match="openssl rand"):
        load_key()


def test_a_key_beside_the_data_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "home" / "key"
    path.parent.mkdir()
    path.write_text("ab" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    with pytest.raises(KeyFileError, match="inside the data folder"):
        load_key(keep_away_from=(tmp_path / "home",))


def test_the_vault_opens_with_its_own_key_alone(tmp_path):
    ours, theirs = derive_keys(b"1" * 32), derive_keys(b"2" * 32)
    table = pl.DataFrame({"file": ["file_1"], "path": ["Quillfeather.json"]})
    path = tmp_path / "files.vault"
    vault.seal(ours, table, path)
    assert vault.unseal(ours, path).equals(table)
    assert b"Quillfeather" not in path.read_bytes()
    with pytest.raises(KeyFileError, match="SEQUELA_KEY_FILE"):
        vault.unseal(theirs, path)


def test_an_altered_or_renamed_vault_file_is_refused(tmp_path):
    key = derive_keys(b"1" * 32)
    path = tmp_path / "files.vault"
    vault.seal(key, pl.DataFrame({"file": ["f"]}), path)
    content = bytearray(path.read_bytes())
    (tmp_path / "patients.vault").write_bytes(content)  # bound to its name
    content[-1] ^= 1
    path.write_bytes(content)
    for altered in (path, tmp_path / "patients.vault"):
        with pytest.raises(KeyFileError):
            vault.unseal(key, altered)
