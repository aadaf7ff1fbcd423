"""Requests to a server that may be slow, busy or away for a moment: repeated with patience, and never for ever.

No message made here holds a path below the server, a token or what an answer says of records: addresses of files may
be signed, and an answer may name a patient.
"""

import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Protocol, TypeVar

import httpx

from features.errors import SourceError
from features.sources.background import pause, start, wait_for
from features.sources.failures import Stopped, Transient, Unreachable
from features.sources.operation_outcomes import is_outcome, issues_of
from features.sources.patience import Pace, seconds_to_wait

Result = TypeVar("Result")

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHORTEST_WAIT_SECONDS = 1.0
CANCELLING_SECONDS = 10.0
_TRIES_TO_REACH = 4  # before a server has ever answered, when the address is as likely wrong as the server away
_HOPELESS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted. If your hospital has its own authority, name the "
    "authority's file in the variable SSL_CERT_FILE",
    "Name or service not known": "there is no such host. Look for a typing error",
    "nodename nor servname": "there is no such host. Look for a typing error",
}


class Tokens(Protocol):
    """Access tokens, renewed in time."""

    def current(self) -> str:
        """A token that should be good."""
        ...

    def instead_of(self, refused: str) -> str:
        """Another token than `refused`."""
        ...


class Connection:
    """Talks to one server, and to those that it points to. To be closed, as a context manager."""

    def __init__(self, base_url: str, pace: Pace) -> None:
        for name in ("httpx", "httpcore"):  # they would log addresses and headers
            logging.getLogger(name).setLevel(logging.WARNING)
        self.base = httpx.URL(base_url)
        self.pace = pace
        self.stop = threading.Event()
        self._has_answered = False
        self._is_local = is_loopback(self.base)
        self._give_up_at = pace.clock() + pace.deadline_hours * 3600
        self._client = httpx.Client(
            timeout=pace.timeout_seconds,
            trust_env=not self._is_local,
            max_redirects=5,
            event_hooks={"request": [lambda request: self.require_safe(request.url)]},
        )

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def require_safe(self, url: httpx.URL | str) -> httpx.URL:
        """The address, when it is https (http only between programs on this machine); else SourceError."""
        try:
            url = httpx.URL(url)
        except httpx.InvalidURL:
            raise SourceError(f"The server {self.base.host} gave an address that is none.") from None
        if url.scheme == "https" or (url.scheme == "http" and self._is_local and is_loopback(url)):
            return url
        raise SourceError(
            f"Records travel by https only, and {url.scheme}://{url.host} is not. Use an https:// address."
        )

    def is_own(self, url: httpx.URL | str) -> bool:
        """Whether the address lies on the FHIR server itself."""
        other = httpx.URL(url)
        return (other.scheme, other.host, other.port) == (self.base.scheme, self.base.host, self.base.port)

    def tokens_for(self, url: str, tokens: Tokens | None) -> Tokens | None:
        """The tokens when the address lies on the server itself, else None: no other server is to see them."""
        return tokens if self.is_own(url) else None

    def ask(
        self,
        method: str,
        url: str,
        what: str,
        *,
        tokens: Tokens | None = None,
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        starts_work: bool = False,
    ) -> httpx.Response:
        """One request, repeated while it fails in ways that pass. The answer may be a refusal: look at its status.

        One that `starts_work` is not repeated when it may have been obeyed although no answer came.
        Raises SourceError when the server wants a better token, Unreachable when patience has ended.
        """

        def attempt() -> httpx.Response:
            try:
                with self.answer(method, url, what, {"Accept": accept, **(headers or {})}, tokens, form) as response:
                    response.read()
                    return response
            except Transient as problem:
                if starts_work and problem.may_have_worked:
                    raise Unreachable(
                        f"{what}: {problem}, and may be at work all the same; asked again, it would work twice."
                    ) from None
                raise

        return self.persist(attempt, what)

    @contextmanager
    def answer(
        self,
        method: str,
        url: str,
        what: str,
        headers: Mapping[str, str],
        tokens: Tokens | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to one request, its body not yet read. A refused token is renewed once.

        Raises Transient, also for what breaks while the caller reads the body.
        """
        try:
            token = tokens.current() if tokens else None
            response = self._send(method, url, headers, token, form)
            if response.status_code == 401 and tokens and token and _saw_token(response):
                response.close()
                token = tokens.instead_of(token)
                response = self._send(method, url, headers, token, form)
            try:
                self._judge(response, what)
                yield response
            finally:
                response.close()
        except httpx.TooManyRedirects:
            raise SourceError(f"{what}: the server sends us round in circles. Check the address.") from None
        except httpx.RequestError as error:
            raise self._reason(error, what) from None

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        token: str | None,
        form: Mapping[str, str] | None,
    ) -> httpx.Response:
        if token:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        request = self._client.build_request(method, self.require_safe(url), headers=headers, data=form)
        # httpx takes the token off when it is sent on to another server; a form is never sent on.
        response = self._client.send(request, stream=True, follow_redirects=method == "GET")
        self._has_answered = True
        return response

    def _judge(self, response: httpx.Response, what: str) -> None:
        if response.status_code in _TRANSIENT:
            with contextlib.suppress(httpx.RequestError):
                response.read()
            raise Transient(
                f"the server answered HTTP {response.status_code}{issues_of(response)}",
                wait=self.asked_wait(response),
                is_verdict=response.status_code == 500 and is_outcome(response),
            )
        if response.status_code == 401 and _saw_token(response):
            raise SourceError(
                f"{what}: the server {response.url.host} refused the access token twice (HTTP 401). Check that the "
                "client is registered there for these types, and that its public key is the one of the key file."
            )

    def _reason(self, error: httpx.RequestError, what: str) -> Exception:
        host = error.request.url.host
        for sign, meaning in _HOPELESS.items():
            if sign in str(error):
                return SourceError(f"{what}: no connection to {host}: {meaning}.")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return Transient(f"no connection to {host}")
        if isinstance(error, httpx.TimeoutException):
            return Transient(f"{host} did not answer within {self.pace.timeout_seconds:g} s", may_have_worked=True)
        return Transient(f"the connection to {host} broke", may_have_worked=True)

    def asked_wait(self, response: httpx.Response) -> float | None:
        """How long the server asks to wait (s), at least 1 s and at most the longest wait; None when it does not."""
        seconds = seconds_to_wait(response.headers.get("Retry-After"), self.pace.clock())
        if seconds is None:
            return None
        return min(max(seconds, _SHORTEST_WAIT_SECONDS), self.pace.longest_wait_seconds)

    def persist(self, attempt: Callable[[], Result], what: str) -> Result:
        """Call `attempt` until it does not raise Transient; Unreachable after too many failures in a row."""
        failures = 0
        for turn in count(1):
            try:
                return attempt()
            except Transient as problem:
                failures = 1 if problem.got_further else failures + 1
                if failures >= (self.pace.tries if self._has_answered else min(self.pace.tries, _TRIES_TO_REACH)):
                    raise Unreachable(f"{what}: {problem}, {failures} times in a row.", problem.is_verdict) from None
                if turn >= self.pace.most_tries:
                    raise Unreachable(f"{what}: {problem}, {turn:,} times.", problem.is_verdict) from None
                self.wait(self.pace.guess(failures) if problem.wait is None else problem.wait)
        raise AssertionError("unreachable")

    def wait(self, seconds: float) -> None:
        """Wait. Raises Stopped when the others have stopped, Unreachable when the deadline comes first."""
        if self.pace.clock() + seconds > self._give_up_at:
            raise Unreachable(f"The export was not done within {self.pace.deadline_hours:g} hours.")
        if self.pace.sleep is None:
            pause(seconds, self.stop)
        else:
            self.pace.sleep(seconds)
        self.check()

    def check(self) -> None:
        """Raise Stopped when this thread shall end, Unreachable when the deadline has passed."""
        if self.stop.is_set():
            raise Stopped
        if self.pace.clock() > self._give_up_at:
            raise Unreachable(f"The export was not done within {self.pace.deadline_hours:g} hours.")

    def cancel(self, url: str, tokens: Tokens | None) -> None:
        """Tell the server that the job is no longer wanted: once, shortly, and whatever it answers."""

        def attempt() -> None:
            headers = {"Accept": "application/json"}
            with self.answer("DELETE", url, "Cancelling the export", headers, self.tokens_for(url, tokens)):
                pass

        wait_for(start([attempt]), at_most_seconds=CANCELLING_SECONDS)


def _saw_token(response: httpx.Response) -> bool:
    """Whether the request that was answered in the end had the token; one sent on to another server has not."""
    return "Authorization" in response.request.headers


def is_loopback(url: httpx.URL) -> bool:
    """Whether the address lies on this machine."""
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"
