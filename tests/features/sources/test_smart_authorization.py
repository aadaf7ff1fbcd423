"""The client proves who it is with either kind of key, renews its token in time, and shows neither."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey, RSAKey

from features.errors import KeyFileError, SourceError
from features.sources.bulk_export import ExportRequest, export
from features.sources.patience import Pace
from features.sources.server_requests import Connection
from features.sources.smart_authorization import AccessTokens, load_signing_key, public_key_set
from tests.features.sources.bulk_server import Answer, BulkServer, patients
from tests.features.sources.conftest import Clock

NOW = datetime(2026, 3, 2, tzinfo=UTC)
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "landed" / "fhir_server"


def pem(key: Private) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key: Private, **more: object) -> dict:
    made = RSAKey.import_key(key) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(key)
    return {**made.as_dict(private=True), **more}


def key_file(folder: Path, content: bytes | dict) -> Path:
    path = folder / "key"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(0o600)
    return path


@pytest.fixture
def request_(server: BulkServer, tmp_path: Path) -> ExportRequest:
    """A request to a server that knows the client by its EC key."""
    server.requires_token, server.public_key = True, EC_KEY.public_key()
    path = key_file(tmp_path, pem(EC_KEY))
    return ExportRequest(server.base, types=("Patient", "Condition"), client_id="sequela", key_path=path)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA_KEY, "RS384"), (EC_KEY, "ES384")])
@pytest.mark.parametrize("form", ["pem", "jwk", "set"])
def test_the_server_can_verify_who_asks(
    server: BulkServer, tmp_path: Path, place: Path, pace: Pace, key: Private, algorithm: str, form: str
) -> None:
    server.requires_token, server.public_key = True, key.public_key()
    public = jwk(key)
    content = {
        "pem": pem(key),
        "jwk": jwk(key, kid="my-key"),
        "set": {"keys": [{"kty": "oct", "k": "AAAA"}, jwk(key, kid="my-key", use="sig", alg=algorithm)]},
    }[form]
    path = key_file(tmp_path, content)
    export(ExportRequest(server.base, client_id="sequela", key_path=path), place, NOW, pace=pace)
    said = server.assertions[0]
    assert (said["alg"], said["typ"], said["iss"], said["sub"]) == (algorithm, "JWT", "sequela", "sequela")
    registered = public_key_set(path)["keys"][0]
    assert said["kid"] == registered["kid"]
    assert (registered["kid"] == "my-key") == (form != "pem")
    assert not set(registered) & {"d", "p", "q", "dp", "dq", "qi"}
    name = "n" if algorithm == "RS384" else "x"
    assert registered[name] == public[name]
    assert all(
        one.headers["Authorization"] == "Bearer TOKEN-0"
        for kind in ("kickoff", "status", "file", "cancel")
        for one in server.asked(kind)
    )


@pytest.mark.parametrize(
    ("capabilities", "scope"),
    [
        (["permission-v1", "permission-v2"], "system/Condition.read system/Patient.read"),
        ([], "system/Condition.read system/Patient.read"),
        (["permission-v2"], "system/Condition.rs system/Patient.rs"),
    ],
)
def test_scopes_are_in_the_servers_dialect(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, capabilities: list[str], scope: str
) -> None:
    server.capabilities = capabilities
    export(request_, place, NOW, pace=pace)
    assert server.assertions[0]["scope"] == scope


def test_token_url_and_scope_can_be_given(server: BulkServer, tmp_path: Path, place: Path, pace: Pace) -> None:
    server.requires_token, server.public_key = True, RSA_KEY.public_key()
    request = ExportRequest(
        server.base,
        client_id="sequela",
        key_path=key_file(tmp_path, pem(RSA_KEY)),
        token_url=f"{server.root}/token",
        scope="system/*.read",
    )
    export(request, place, NOW, pace=pace)
    assert server.asked("configuration") == []
    assert server.assertions[0]["scope"] == "system/*.read"


def test_a_token_is_renewed_before_it_ends(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    server.token_seconds = 60  # renewed from 30 s on
    server.fail("status", *[Answer(202, {"Retry-After": "20"})] * 3)
    export(request_, place, NOW, pace=pace)
    # 0 s and 20 s with the first token, 40 s and 60 s with the second.
    assert [one.headers["Authorization"] for one in server.asked("status")] == [
        "Bearer TOKEN-0",
        "Bearer TOKEN-0",
        "Bearer TOKEN-1",
        "Bearer TOKEN-1",
    ]


@pytest.mark.parametrize("kind", ["kickoff", "status", "file"])
def test_a_token_refused_in_the_middle_is_renewed_once(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, kind: str
) -> None:
    server.fail(kind, Answer(401))
    export(request_, place, NOW, pace=pace)
    assert len(server.tokens) == 2
    assert (place / "0001-full" / "manifest.json").exists()


def test_threads_that_are_refused_together_share_the_new_token(
    server: BulkServer, request_: ExportRequest, pace: Pace
) -> None:
    assert request_.key_path is not None
    with Connection(server.base, pace) as connection:
        signing = load_signing_key(request_.key_path)
        tokens = AccessTokens(connection, signing, "sequela", f"{server.root}/token", "system/*.read")
        assert tokens.current() == "TOKEN-0"
        assert [tokens.instead_of("TOKEN-0") for _ in range(2)] == ["TOKEN-1", "TOKEN-1"]


@pytest.mark.parametrize("kind", ["kickoff", "status"])
def test_a_token_refused_twice_is_told(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, kind: str
) -> None:
    server.fail(kind, Answer(401), Answer(401))
    with pytest.raises(SourceError, match=r"refused the access token twice \(HTTP 401\).*registered") as problem:
        export(request_, place, NOW, pace=pace)
    assert "TOKEN" not in str(problem.value)
    assert not place.exists()


def test_an_unknown_client_is_told_what_to_check(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    server.public_key = RSA_KEY.public_key()  # not ours
    with pytest.raises(SourceError, match=r"HTTP 400, invalid_client.*public key.*registered"):
        export(request_, place, NOW, pace=pace)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404), "Give the token URL"),
        (Answer(200, body=b"<html>"), "Give the token URL"),
        (Answer(200, body=b'{"token_endpoint": "http://elsewhere.example/token"}'), "https only"),
    ],
)
def test_a_server_that_names_no_good_token_endpoint(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, answer: Answer, said: str
) -> None:
    server.fail("configuration", answer)
    with pytest.raises(SourceError, match=said):
        export(request_, place, NOW, pace=pace)


def test_a_token_endpoint_is_not_followed_elsewhere(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    server.fail("token", Answer(307, {"Location": f"{server.root}/elsewhere"}))
    with pytest.raises(SourceError, match="HTTP 307"):
        export(request_, place, NOW, pace=pace)
    assert not any(one.path == "/elsewhere" for one in server.seen)


def test_files_on_another_server_never_see_the_token(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, clock: Clock
) -> None:
    with BulkServer(output=server.output, jobs=server.jobs, clock=clock.time) as storage:
        server.files_at = storage.root
        export(request_, place, NOW, pace=pace)
        assert len(storage.asked("file")) == 3
        assert not any("Authorization" in one.headers for one in storage.seen)


def test_a_job_on_another_server_never_sees_the_token(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    with BulkServer(requires_token=True) as elsewhere:
        server.fail("kickoff", Answer(202, {"Content-Location": f"{elsewhere.root}/jobs/0"}))
        with pytest.raises(SourceError, match="HTTP 401"):
            export(request_, place, NOW, pace=pace)
        assert elsewhere.asked("status")
        assert not any("Authorization" in one.headers for one in elsewhere.seen)


@pytest.mark.parametrize("how", ["job", "redirect"])
def test_a_list_from_another_server_does_not_send_the_token_anywhere(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace, how: str
) -> None:
    """A stranger's list may say that its files want the token."""
    with BulkServer(output=[("Patient", patients("a"))], clock=pace.clock) as elsewhere:
        elsewhere.jobs.append({"asked": "", "output": elsewhere.output, "polls": 0})
        made = {**elsewhere.manifest(0), "requiresAccessToken": True}
        elsewhere.fail("status", Answer(200, body=json.dumps(made).encode()))
        if how == "job":
            server.fail("kickoff", Answer(202, {"Content-Location": f"{elsewhere.root}/jobs/0"}))
        else:
            server.fail("status", Answer(302, {"Location": f"{elsewhere.root}/jobs/0"}))
        export(request_, place, NOW, pace=pace)
        assert len(elsewhere.asked("file")) == 1
        assert not any("Authorization" in one.headers for one in elsewhere.seen)


def test_the_servers_own_list_may_send_the_token_to_its_files(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    with BulkServer(jobs=server.jobs) as storage:
        export(replace(request_, types=("Patient",)), place, NOW, pace=pace)
        made = {**server.manifest(0), "requiresAccessToken": True}
        made["output"][0]["url"] = f"{storage.root}/files/0/0"
        server.fail("status", Answer(200, body=json.dumps(made).encode()))
        export(replace(request_, types=("Patient",)), place, NOW, full=True, pace=pace)
        assert [one.headers["Authorization"] for one in storage.seen] == [f"Bearer {server.tokens[-1]}"]


def test_a_refusal_elsewhere_is_no_refusal_of_the_token(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    server.output = [("Patient", patients("a"))]
    with BulkServer(requires_token=True) as storage:
        server.fail("file", Answer(302, {"Location": f"{storage.root}/files/0/0"}))
        with pytest.raises(SourceError, match=r"HTTP 401.*not the FHIR server itself gets no token"):
            export(request_, place, NOW, pace=pace)
        assert len(storage.seen) == 1
    assert len(server.tokens) == 1  # none was refused, so none was renewed


def test_a_redirect_elsewhere_loses_the_token(
    server: BulkServer, request_: ExportRequest, place: Path, pace: Pace
) -> None:
    server.output = [("Patient", patients("a"))]
    with BulkServer(jobs=server.jobs) as storage:
        server.fail("file", Answer(302, {"Location": f"{storage.root}/files/0/0"}))
        export(request_, place, NOW, pace=pace)
        assert len(storage.asked("file")) == 1
        assert "Authorization" not in storage.seen[0].headers


def test_nothing_secret_is_logged_or_written(
    server: BulkServer,
    request_: ExportRequest,
    place: Path,
    pace: Pace,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail("file", Answer(401), Answer(503))
    export(request_, place, NOW, pace=pace)
    shown = caplog.text + "".join(capfd.readouterr())
    written = "".join(path.read_text() for path in place.parent.rglob("*") if path.is_file())
    assert not [word for word in ("TOKEN", "SECRET", "Bearer", "eyJ") if word in shown + written]


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(rsa.generate_private_key(65537, 1024)), "no private key that fits"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no private key that fits"),
        (jwk(RSA_KEY, alg="RS256"), "no private key that fits"),
        (jwk(RSA_KEY, use="enc"), "no private key that fits"),
        ({"keys": "none"}, "no private key that fits"),
        (ECKey.import_key(EC_KEY).as_dict(private=False), "no private key that fits"),
        ({"kty": "RSA", "d": "PRIVATE"}, "cannot be read as a key"),
        (b"{PRIVATE", "not JSON"),
        (b"PRIVATE", "neither a PEM private key nor a JWK"),
        (EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "neither a PEM private"),
        (EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "passphrase"),
    ],
)
def test_other_keys_are_refused_without_being_shown(tmp_path: Path, content: bytes | dict, said: str) -> None:
    with pytest.raises(KeyFileError, match=said) as problem:
        load_signing_key(key_file(tmp_path, content))
    assert "PRIVATE" not in str(problem.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, pem(EC_KEY))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_signing_key(path)


def test_a_missing_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="There is no key file"):
        load_signing_key(tmp_path / "key")


def test_a_key_is_never_printed(tmp_path: Path) -> None:
    path = key_file(tmp_path, jwk(EC_KEY))
    assert str(jwk(EC_KEY)["d"]) not in repr(load_signing_key(path))


@pytest.mark.parametrize("half", [{"client_id": "sequela"}, {"key_path": Path("key")}])
def test_client_id_and_key_belong_together(server: BulkServer, place: Path, pace: Pace, half: dict) -> None:
    with pytest.raises(SourceError, match="belong together"):
        export(ExportRequest(server.base, **half), place, NOW, pace=pace)
