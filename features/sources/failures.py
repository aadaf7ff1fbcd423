"""The ways in which asking a server fails, and what is said of them.

No message holds a path below the server or what an answer says of records: see `server_requests`.
"""

import httpx

from features.errors import SourceError
from features.sources.operation_outcomes import issues_of


class Unreachable(SourceError):
    """The server did not answer, or not in time; asking again later may do.

    `is_verdict` when it was the FHIR server that spoke last, and said that it failed.
    """

    def __init__(self, message: str, is_verdict: bool = False) -> None:
        super().__init__(message)
        self.is_verdict = is_verdict


class Stopped(Exception):
    """This thread shall end: the whole has failed or was interrupted."""


class Transient(Exception):
    """What was tried failed, and may go well the next time.

    `wait` is how long the server asks to wait (s). `got_further` when something was won all the same. `is_verdict`
    when it is the FHIR server itself that says it failed, and not something between it and us. `may_have_worked` when
    the request went out and no answer came.
    """

    def __init__(
        self,
        reason: str,
        wait: float | None = None,
        got_further: bool = False,
        is_verdict: bool = False,
        may_have_worked: bool = False,
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.got_further = got_further
        self.is_verdict = is_verdict
        self.may_have_worked = may_have_worked


def refusal(response: httpx.Response, what: str) -> SourceError:
    """The error to raise for an answer that says no."""
    host = response.url.host
    if response.status_code == 401:
        return SourceError(
            f"{what}: the server {host} wants to know who asks (HTTP 401). Give the client id that it knows us by and "
            "our key file; a server that is not the FHIR server itself gets no token of it."
        )
    if response.status_code == 403:
        return SourceError(
            f"{what}: the server {host} does not allow it (HTTP 403{issues_of(response)}). Ask there that the client "
            "is granted these types."
        )
    return SourceError(f"{what}: the server {host} answered HTTP {response.status_code}{issues_of(response)}.")
