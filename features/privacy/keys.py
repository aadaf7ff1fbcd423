"""The secret behind pseudonyms, date shifts and the vault: where it lies and how it is used.

The key never stands beside the data. Each use has a key of its own, derived from the one in the file.
"""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from features.errors import KeyFileError

_KEY_BYTES = 32


@dataclass(frozen=True)
class Key:
    """The keys of a study, one for each use; never printed."""

    pseudonyms: bytes
    date_shift: bytes
    splits: bytes
    vault: bytes
    contents: bytes

    def __repr__(self) -> str:
        return "Key(…)"


def derive_keys(secret: bytes) -> Key:
    """Derive one key for each use (HKDF-SHA256) from the secret in the key file."""

    def derive(use: str) -> bytes:
        return HKDF(SHA256(), length=_KEY_BYTES, salt=None, info=f"sequela {use}".encode()).derive(secret)

    return Key(
        pseudonyms=derive("pseudonyms"),
        date_shift=derive("date shift"),
        splits=derive("splits"),
        vault=derive("vault"),
        contents=derive("contents"),
    )


def default_key_file() -> Path:
    """Where the key lies unless SEQUELA_KEY_FILE says otherwise: the user's own settings folder."""
    settings_folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings_folder) / "sequela" / "key"


def key_file() -> Path:
    """The key file in use: SEQUELA_KEY_FILE, else the default place."""
    named = os.environ.get("SEQUELA_KEY_FILE")
    return Path(named) if named else default_key_file()


def load_key(*, keep_away_from: tuple[Path, ...] = ()) -> Key:
    """Read the key; make one on first use when no place was named.

    `keep_away_from` are the folders of data in which a key may not lie.
    Raises KeyFileError when the file is missing, readable by others, malformed, or beside the data.
    """
    path = key_file()
    for folder in keep_away_from:
        if path.resolve().is_relative_to(folder.resolve()):
            raise KeyFileError(
                f"The key file {path} lies inside the data folder {folder}. "
                "Keep it elsewhere and set SEQUELA_KEY_FILE to the new place."
            )
    if not path.exists():
        if os.environ.get("SEQUELA_KEY_FILE"):
            raise KeyFileError(
                f"SEQUELA_KEY_FILE names {path}, which does not exist. Make a key with `{_how_to_make(path)}`, or "
                "unset the variable to have one made."
            )
        _make_key_file(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"Others can read the key file {path}. Run `chmod 600 {path}`.")
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except (ValueError, OSError):
        secret = b""
    if len(secret) != _KEY_BYTES:
        raise KeyFileError(
            f"The key file {path} does not hold {_KEY_BYTES} bytes written as {2 * _KEY_BYTES} hexadecimal digits. Put "
            f"back the key that the home was made with; for a new home, make one with `{_how_to_make(path)}`."
        )
    return derive_keys(secret)


def _how_to_make(path: Path) -> str:
    return f"(umask 077; openssl rand -hex {_KEY_BYTES} > {path})"


def _make_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another run was quicker; its key is as good
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
