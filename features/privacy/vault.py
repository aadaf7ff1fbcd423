"""The only way back from pseudonyms, encrypted (AES-256-GCM): patients and their shifts, records, file names.

Each file of the vault is one encrypted Parquet table. Opened to score a real day, to write scores back, or to
find the source of a quarantined record; by nothing else.
"""

import io
import os
from pathlib import Path

import polars as pl
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from features.errors import KeyFileError, SequelaError
from features.privacy.keys import Key

_NONCE_BYTES = 12
_MARK = b"sequela vault 1\n"

PATIENTS = {"subject_id": pl.Int64, "patient": pl.String, "weeks_us": pl.Int64, "seconds_us": pl.Int64}
RECORDS = {"record_id": pl.Int64, "resource_type": pl.String, "resource": pl.String}
FILES = {"file": pl.String, "path": pl.String}


def seal(key: Key, table: pl.DataFrame, path: Path) -> None:
    """Write `table` to `path`, encrypted; the file's name is bound to its content."""
    plain = io.BytesIO()
    table.write_parquet(plain, compression="zstd")
    nonce = os.urandom(_NONCE_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.building.{os.getpid()}")
    building.write_bytes(_MARK + nonce + AESGCM(key.vault).encrypt(nonce, plain.getvalue(), _bound(path)))
    os.replace(building, path)


def unseal(key: Key, path: Path) -> pl.DataFrame:
    """Read a table written by `seal`. Raises KeyFileError when the key is another one."""
    sealed = path.read_bytes()
    if not sealed.startswith(_MARK):
        raise SequelaError(f"{path.name} in the vault is not a vault file. Run `sequela run` again.")
    nonce, content = sealed[len(_MARK) :][:_NONCE_BYTES], sealed[len(_MARK) + _NONCE_BYTES :]
    try:
        return pl.read_parquet(AESGCM(key.vault).decrypt(nonce, content, _bound(path)))
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
        found = unseal(key, path).filter(pl.col("record_id") == record_id)
        if not found.is_empty():
            return f"{found['resource_type'][0]}/{found['resource'][0]}"
    raise SequelaError("No such record in the vault. Take the number from the `record_id` column of events.")


def _bound(path: Path) -> bytes:
    return path.name.encode()


def _standing(path: Path) -> Path:
    if not path.exists():
        raise SequelaError("This home has no vault yet. Run `sequela run` first.")
    return path
