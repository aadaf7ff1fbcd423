"""A small FHIR server with Bulk Data export on loopback, real sockets and all, that fails as it is told to."""

import base64
import gzip
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

MOMENT = "2026-03-01T08:00:00.000Z"


def patients(*names: str) -> bytes:
    """NDJSON of patients with these ids."""
    return b"".join(b'{"resourceType":"Patient","id":"%s"}\n' % name.encode() for name in names)


def conditions(*names: str) -> bytes:
    """NDJSON of conditions with these ids."""
    return b"".join(b'{"resourceType":"Condition","id":"%s"}\n' % name.encode() for name in names)


def outcome(severity: str, code: str, diagnostics: str = "") -> bytes:
    """One OperationOutcome as a line."""
    issue = {"severity": severity, "code": code, "diagnostics": diagnostics}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode() + b"\n"


@dataclass(frozen=True)
class Answer:
    """What to answer in place of the right thing."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    kind: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class BulkServer:
    """What the server holds and how it behaves; change it at will between requests."""

    output: list[tuple[str, bytes]] = field(default_factory=list)
    changes: list[tuple[str, bytes]] | None = None  # the output when `_since` is asked; None: as without
    deleted: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    counts: dict[int, int | None] = field(default_factory=dict)  # by position in the output, where not the true one
    moment: str = MOMENT
    polls: int = 0  # how often it says "not yet"
    is_relative: bool = False
    requires_token: bool = False  # what the manifest says, and what is asked of all requests
    files_at: str | None = None  # another server's address, if the files lie there
    knows_range: bool = True
    tag: str | None = '"one"'  # changes when a file is made anew
    changed: str | None = None  # when a file was made, as Last-Modified
    heeds_if_range: bool = True
    longest_part: int | None = None  # bytes that it sends at most when asked for the rest
    packs: str | None = None  # "encoding": gzip as Content-Encoding; "body": files that are gzip themselves
    has_length: bool = True
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None
    token_seconds: int = 300
    capabilities: list[str] = field(default_factory=lambda: ["permission-v1", "permission-v2"])
    clock: Callable[[], float] = time.time
    on_file: Callable[[int], None] = lambda position: None  # called before a file is sent
    on_kickoff: Callable[[], None] = lambda: None  # called before a job is begun
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    drops: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # after so many bytes, by position
    seen: list[Seen] = field(default_factory=list)
    assertions: list[dict] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    jobs: list[dict] = field(default_factory=list)

    def __enter__(self) -> "BulkServer":
        server = self

        class Handler(_Handler):
            bulk = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # clients that are gone are what is tested
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"

    def fail(self, kind: str, *answers: Answer) -> None:
        """Answer the next requests of this kind so: configuration, token, kickoff, status, file or cancel."""
        self.answers[kind] += answers

    def asked(self, kind: str) -> list[Seen]:
        """The requests of a kind that came."""
        return [one for one in self.seen if one.kind == kind]

    def files_of(self, job: dict) -> list[tuple[str, bytes]]:
        """Output, deleted and error files in one list: a file's position is its address."""
        return [*job["output"], *(("Bundle", text) for text in self.deleted), *(("", text) for text in self.errors)]

    def manifest(self, number: int) -> dict:
        job = self.jobs[number]

        def listed(position: int, kind: str, text: bytes) -> dict:
            count = self.counts.get(position, len(text.splitlines()))
            entry = {"type": kind, "url": f"{self.files_at or self.root}/files/{number}/{position}?signed=SECRET"}
            return entry if count is None else {**entry, "count": count}

        all_files = [listed(position, *one) for position, one in enumerate(self.files_of(job))]
        first, second = len(job["output"]), len(job["output"]) + len(self.deleted)
        return {
            "transactionTime": self.moment,
            "request": job["asked"],
            "requiresAccessToken": self.requires_token and self.files_at is None,
            "output": all_files[:first],
            "deleted": all_files[first:second],
            "error": all_files[second:],
        }


class _Handler(BaseHTTPRequestHandler):
    bulk: BulkServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests are quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        kind = self._kind(path)
        self.bulk.seen.append(Seen(kind, self.command, self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.bulk.answers[kind]:
            answer = self.bulk.answers[kind].pop(0)
            return self._send(answer.status, answer.headers, answer.body)
        if self.bulk.requires_token and kind not in ("token", "configuration") and not self._is_known():
            return self._send(401)
        getattr(self, f"_{kind}")(path, body)

    def _kind(self, path: str) -> str:
        if path.endswith("$export"):
            return "kickoff"
        if path.startswith("/jobs/"):
            return "cancel" if self.command == "DELETE" else "status"
        return {"/token": "token", "/fhir/.well-known/smart-configuration": "configuration"}.get(path, "file")

    def _is_known(self) -> bool:
        return bool(self.bulk.tokens) and self.headers.get("Authorization") == f"Bearer {self.bulk.tokens[-1]}"

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _send_json(self, content: dict) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _configuration(self, path: str, body: bytes) -> None:
        self._send_json({"token_endpoint": f"{self.bulk.root}/token", "capabilities": self.bulk.capabilities})

    def _token(self, path: str, body: bytes) -> None:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        head, claims, signature = form["client_assertion"].split(".")
        header, said = (json.loads(_bytes_of(part)) for part in (head, claims))
        try:
            _verify(self.bulk.public_key, f"{head}.{claims}".encode(), _bytes_of(signature))
            assert said["aud"] == f"{self.bulk.root}/token"
            assert 0 < said["exp"] - self.bulk.clock() <= 300
            assert all(said["jti"] != one["jti"] for one in self.bulk.assertions)
        except Exception:
            return self._send(400, {}, b'{"error": "invalid_client"}')
        self.bulk.assertions.append({**header, **said, "scope": form["scope"]})
        self.bulk.tokens.append(f"TOKEN-{len(self.bulk.tokens)}")
        self._send_json({"access_token": self.bulk.tokens[-1], "expires_in": self.bulk.token_seconds})

    def _kickoff(self, path: str, body: bytes) -> None:
        self.bulk.on_kickoff()
        is_increment = "_since" in parse_qs(urlsplit(self.path).query) and self.bulk.changes is not None
        output = self.bulk.changes if is_increment else self.bulk.output
        self.bulk.jobs.append({"asked": self.path, "output": list(output or []), "polls": self.bulk.polls})
        place = f"/jobs/{len(self.bulk.jobs) - 1}"
        self._send(202, {"Content-Location": place if self.bulk.is_relative else f"{self.bulk.root}{place}"})

    def _status(self, path: str, body: bytes) -> None:
        job = self.bulk.jobs[int(path.rpartition("/")[2])]
        if job["polls"]:
            job["polls"] -= 1
            return self._send(202, {"X-Progress": "50%"})
        self._send_json(self.bulk.manifest(self.bulk.jobs.index(job)))

    def _cancel(self, path: str, body: bytes) -> None:
        self._send(202)

    def _file(self, path: str, body: bytes) -> None:
        number, position = (int(part) for part in path.split("/")[-2:])
        self.bulk.on_file(position)
        text = self.bulk.files_of(self.bulk.jobs[number])[position][1]
        validators = {"ETag": self.bulk.tag, "Last-Modified": self.bulk.changed}
        headers = {name: value for name, value in validators.items() if value}
        if self.bulk.packs == "body":
            text = gzip.compress(text)
        elif self.bulk.packs == "encoding" and "gzip" in self.headers.get("Accept-Encoding", ""):
            text, headers = gzip.compress(text), {"Content-Encoding": "gzip"}
        status, start, stop = 200, 0, len(text)
        is_same = not self.bulk.heeds_if_range or self.headers.get("If-Range") in (None, *validators.values())
        if self.bulk.knows_range and is_same and (asked := self.headers.get("Range")):
            status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
            stop = min(stop, start + (self.bulk.longest_part or stop))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(text)}"
        self.send_response(status)
        if self.bulk.has_length:
            headers["Content-Length"] = str(stop - start)
        else:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        drops = self.bulk.drops[position]
        end = drops.pop(0) if drops else stop
        self.wfile.write(text[start:end])
        self.close_connection = self.close_connection or end < stop


def _bytes_of(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verify(public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None, signed: bytes, signature: bytes) -> None:
    """Check a signature without the library that made it: RS384 or ES384. Raises when it is another's."""
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, signed, padding.PKCS1v15(), SHA384())
    else:
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        assert len(signature) == 96  # two numbers of 48 bytes
        numbers = (int.from_bytes(half) for half in (signature[:48], signature[48:]))
        public_key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(SHA384()))
