"""The only way back from pseudonyms, encrypted (AES-256-GCM): patients and their shifts, records, file names.

A file of the vault holds one table, or several with their names. Opened to score a real day, to write scores back, to
find the source of a quarantined record, or to tell what of a source has been read before; by nothing else.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import polars as pl
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from features.errors import KeyFileError, SequelaError
from features.privacy.keys import Key

_NONCE_BYTES = 12
_MARK = b"sequela vault 1\n"

PATIENTS = pl.Schema({"subject_id": pl.Int64, "patient": pl.String, "weeks_us": pl.Int64, "seconds_us": pl.Int64})
FILES = pl.Schema({"file": pl.String, "path": pl.String})


def seal(key: Key, table: pl.DataFrame, path: Path) -> None:
    """Write `table` to `path`, encrypted; the file's name is bound to its content."""
    plain = io.BytesIO()
    table.write_parquet(plain, compression="zstd")
    _write(key, plain.getvalue(), path)


def unseal(key: Key, path: Path) -> pl.DataFrame:
    """Read a table written by `seal`. Raises KeyFileError when the key is another one."""
    return pl.read_parquet(_read(key, path))


def seal_tables(key: Key, tables: Mapping[str, pl.DataFrame], path: Path, *, is_passing: bool = False) -> None:
    """Write several tables with their names to `path`, encrypted; those that are only passing, large but quickly."""
    written: dict[str, memoryview] = {}
    for name, table in tables.items():
        plain = io.BytesIO()
        if is_passing:
            table.write_ipc(plain, compression="uncompressed")
        else:
            table.write_parquet(plain, compression="zstd", compression_level=1, statistics=False)
        written[name] = plain.getbuffer()
    _write(key, msgspec.msgpack.encode(written), path)


def unseal_tables(key: Key, path: Path) -> dict[str, pl.DataFrame]:
    """Read tables written by `seal_tables`. Raises KeyFileError when the key is another one."""
    written = msgspec.msgpack.decode(_read(key, path), type=dict[str, bytes])
    return {
        name: pl.read_parquet(content) if content.startswith(b"PAR1") else pl.read_ipc(content)
        for name, content in written.items()
    }


def _write(key: Key, plain: bytes, path: Path) -> None:
    nonce = os.urandom(_NONCE_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.building.{os.getpid()}")
    with building.open("wb") as file:
        file.write(_MARK + nonce)
        file.write(AESGCM(key.vault).encrypt(nonce, plain, _bound(path)))
    os.replace(building, path)


def _read(key: Key, path: Path) -> bytes:
    sealed = memoryview(path.read_bytes())
    if bytes(sealed[: len(_MARK)]) != _MARK:
        raise SequelaError(f"{path.name} in the vault is not a vault file. Run `sequela run` again.")
    nonce, content = sealed[len(_MARK) :][:_NONCE_BYTES], sealed[len(_MARK) + _NONCE_BYTES :]
    try:
        return AESGCM(key.vault).decrypt(nonce, content, _bound(path))
    except InvalidTag:
        raise KeyFileError(
            "The key does not open this home's vault: it was written with another key, or was altered. "
            "Set SEQUELA_KEY_FILE to the key of the first run, or choose another --home."
        ) from None


def check_key(key: Key, vault: Path) -> None:
    """Raise KeyFileError if a vault stands at `vault` that `key` does not open."""
    if (path := vault / "patients.vault").exists():
        unseal(key, path)


def read_shifts(vault: Path, key: Key) -> pl.DataFrame:
    """Each patient's move: subject_id, shift_us (microseconds added to true times with a time of day)."""
    patients = unseal(key, _standing(vault / "patients.vault"))
    return patients.select("subject_id", shift_us=pl.col("weeks_us") + pl.col("seconds_us"))


def file_name_of(vault: Path, key: Key, file: str) -> str:
    """The path, below the source folder, behind a pseudonym in the quarantine's `file` column."""
    found = unseal(key, _standing(vault / "files.vault")).filter(pl.col("file") == file)
    if found.is_empty():
        raise SequelaError("No such file in the vault. Take the name from the quarantine's `file` column.")
    return str(found["path"][0])


def resource_of(vault: Path, key: Key, record_id: int) -> str:
    """The source resource (`Type/id`) behind a record_id."""
    for path in sorted(vault.glob("records-*.vault")):
        found = unseal_tables(key, path)["records"].filter(pl.col("record_id") == record_id)
        if not found.is_empty():
            return f"{found['kind'][0]}/{found['resource'][0]}"
    raise SequelaError("No such record in the vault. Take the number from the `record_id` column of events.")


def _bound(path: Path) -> bytes:
    return path.name.encode()


def _standing(path: Path) -> Path:
    if not path.exists():
        raise SequelaError("This home has no vault yet. Run `sequela run` first.")
    return path
