"""SMART Backend Services: a signed statement of who asks, in return for an access token that is renewed in time.

The private key stays in its file; neither it, nor a statement, nor a token is ever shown or written.
"""

import json
import re
import stat
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from features.errors import KeyFileError, SourceError
from features.sources.server_requests import Connection

_ASSERTION_SECONDS = 240  # the standard allows 300; clocks differ a little
_TOKEN_SECONDS = 300  # how long a token is good when the server does not say
_RENEW_SECONDS = 30  # before the end
_SMALLEST_RSA_BITS = 2048
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAKE_ONE = "Make one with `openssl ecparam -name secp384r1 -genkey -noout -out FILE; chmod 600 FILE`."


@dataclass(frozen=True)
class SigningKey:
    """A private key, how it signs, and the name by which the server finds its public half."""

    algorithm: str
    key_id: str
    key: RSAKey | ECKey = field(repr=False)


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key: PEM, a JWK, or the first fitting one of a JWK set.

    RSA of at least 2048 bits signs by RS384, EC on P-384 by ES384. The key's name is its `kid`, else its RFC 7638
    thumbprint. Raises KeyFileError for another key, a locked one, or a file that others can read.
    """
    if not path.is_file():
        raise KeyFileError(f"There is no key file {path}. {_MAKE_ONE}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"Others can read the key file {path}. Run `chmod 600 {path}`.")
    text = path.read_bytes()
    # What the libraries say of a key may hold the key: their words are not passed on.
    found = _keys_of_json(text, path) if text.lstrip().startswith(b"{") else [_key_of_pem(text, path)]
    for key in found:
        algorithm = _algorithm_of(key)
        if algorithm:
            return SigningKey(algorithm, key.kid or key.thumbprint(), key)
    raise KeyFileError(
        f"The key file {path} holds no private key that fits: RSA of {_SMALLEST_RSA_BITS} bits or more (signs by "
        f"RS384), or EC on the curve P-384 (signs by ES384). {_MAKE_ONE}"
    )


def public_key_set(path: Path) -> dict[str, list[dict[str, object]]]:
    """The public half of a key file, as the JWK set that is registered at the server. Raises as load_signing_key."""
    signing = load_signing_key(path)
    extra = {"kid": signing.key_id, "alg": signing.algorithm, "use": "sig", "key_ops": ["verify"]}
    return {"keys": [{**signing.key.as_dict(private=False), **extra}]}


def client_assertion(signing: SigningKey, client_id: str, token_url: str, now: float) -> str:
    """The signed statement that `client_id` asks at `token_url`, good for four minutes from `now` (Unix time, s)."""
    return jwt.encode(
        {"alg": signing.algorithm, "kid": signing.key_id, "typ": "JWT"},
        {
            "iss": client_id,
            "sub": client_id,
            "aud": token_url,
            "exp": int(now) + _ASSERTION_SECONDS,
            "jti": str(uuid.uuid4()),
        },
        signing.key,
        algorithms=[signing.algorithm],
    )


class AccessTokens:
    """The access token of one export, shared by its threads."""

    def __init__(self, connection: Connection, signing: SigningKey, client_id: str, token_url: str, scope: str) -> None:
        self._connection = connection
        self._signing = signing
        self._client_id = client_id
        connection.require_safe(token_url)
        self._token_url = token_url  # to the letter: the server compares it with what the statement says
        self._scope = scope
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    def current(self) -> str:
        """A token that is good for a while. Raises SourceError when the server gives none."""
        with self._lock:
            if not self._token or self._connection.pace.clock() >= self._renew_at:
                self._fetch()
            return self._token

    def instead_of(self, refused: str) -> str:
        """Another token than `refused`; the one that another thread has fetched meanwhile, if so."""
        with self._lock:
            if self._token == refused:
                self._fetch()
            return self._token

    def _fetch(self) -> None:
        now = self._connection.pace.clock()
        response = self._connection.ask(
            "POST",
            self._token_url,
            "Asking for an access token",
            form={
                "grant_type": "client_credentials",
                "scope": self._scope,
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": client_assertion(self._signing, self._client_id, self._token_url, now),
            },
        )
        if response.status_code != 200:
            raise SourceError(
                f"The token endpoint on {response.url.host} gave no access token (HTTP {response.status_code}"
                f"{_oauth_error(response.content)}). Check that the client id is right, that the public key of the "
                f"key file is registered there under the name (kid) {self._signing.key_id}, that the scopes are "
                f"granted ({self._scope}), and that this machine's clock is right."
            )
        try:
            granted = msgspec.json.decode(response.content, type=_Granted)
        except msgspec.DecodeError:
            raise SourceError(
                f"The token endpoint on {response.url.host} answered with something else than a token. "
                "Check its address."
            ) from None
        self._token = granted.access_token
        self._renew_at = now + granted.expires_in - min(_RENEW_SECONDS, granted.expires_in / 2)


def find_token_endpoint(connection: Connection, server: str) -> tuple[str, bool]:
    """The token endpoint that a FHIR server names, and whether it knows only scopes of SMART 2 ("system/Patient.rs").

    Raises SourceError when it names none.
    """
    response = connection.ask("GET", f"{server}/.well-known/smart-configuration", "Asking how to sign in")
    try:
        found = msgspec.json.decode(response.content, type=_Configuration) if response.status_code == 200 else None
    except msgspec.DecodeError:
        found = None
    if found is None or not found.token_endpoint:
        raise SourceError(
            f"The server {response.url.host} does not say where access tokens are given "
            f"(.well-known/smart-configuration, HTTP {response.status_code}). Give the token URL."
        )
    return found.token_endpoint, "permission-v2" in found.capabilities and "permission-v1" not in found.capabilities


def scope_of(types: Iterable[str], is_version_2: bool) -> str:
    """The scopes that reading these types takes: "system/Patient.read system/Condition.read"."""
    return " ".join(f"system/{one}.{'rs' if is_version_2 else 'read'}" for one in types)


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = _TOKEN_SECONDS


class _Configuration(msgspec.Struct):
    token_endpoint: str | None = None
    capabilities: list[str] = []


def _oauth_error(content: bytes) -> str:
    try:
        error = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("error", b"")
        code = msgspec.json.decode(error, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f", {code}" if re.fullmatch("[a-z_]{1,60}", code) else ""


def _keys_of_json(text: bytes, path: Path) -> list[RSAKey | ECKey]:
    try:
        written = json.loads(text)
    except ValueError:
        raise KeyFileError(f"The key file {path} begins like a JWK but is not JSON.") from None
    each = written.get("keys", [written])
    found: list[RSAKey | ECKey] = []
    for one in each if isinstance(each, list) else []:
        if not isinstance(one, dict):
            continue
        kind = one.get("kty")
        if kind not in ("RSA", "EC") or one.get("use", "sig") != "sig":
            continue
        try:
            found.append(RSAKey.import_key(one) if kind == "RSA" else ECKey.import_key(one))
        except (JoseError, ValueError, KeyError, TypeError):
            raise KeyFileError(f"The key file {path} holds a JWK that cannot be read as a key.") from None
    return found


def _key_of_pem(text: bytes, path: Path) -> RSAKey | ECKey:
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        raise KeyFileError(
            f"The key file {path} is locked with a passphrase. Write an unlocked copy that only you can read: "
            f"`(umask 077; openssl pkey -in {path} -out NEW_FILE)`."
        ) from None
    except ValueError:
        raise KeyFileError(f"The key file {path} is neither a PEM private key nor a JWK. {_MAKE_ONE}") from None
    if isinstance(key, RSAPrivateKey):
        return RSAKey.import_key(key)
    if isinstance(key, EllipticCurvePrivateKey):
        return ECKey.import_key(key)
    raise KeyFileError(f"The key file {path} holds a key that is neither RSA nor EC. {_MAKE_ONE}")


def _algorithm_of(key: RSAKey | ECKey) -> str | None:
    """RS384 or ES384; None when the key can do neither, or is meant for another."""
    if not key.is_private:
        return None
    if isinstance(key, RSAKey):
        algorithm = "RS384" if key.private_key and key.private_key.key_size >= _SMALLEST_RSA_BITS else None
    else:
        algorithm = "ES384" if key.curve_name == "P-384" else None
    return algorithm if key.get("alg", algorithm) == algorithm else None
