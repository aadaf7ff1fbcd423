"""What to export from which FHIR server, and who asks."""

import re
from dataclasses import dataclass
from pathlib import Path

import httpx

from features.errors import SourceError
from features.privacy.rules import load_rules

_LEVEL = re.compile(r"(?P<server>.*?)(?:/(?P<level>Patient|Group/[A-Za-z0-9.-]{1,64}))?(?:/\$export)?/?")


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and who asks.

    `base_url` is https://server/fhir for everybody known there, …/fhir/Patient for all patients, …/fhir/Group/ID for
    a group's. No `types`: those that Sequela reads. `client_id` and `key_path` belong to SMART Backend Services;
    `token_url` and `scope` are found out when they are not given.
    """

    base_url: str
    types: tuple[str, ...] = ()
    client_id: str | None = None
    key_path: Path | None = None
    token_url: str | None = None
    scope: str | None = None

    @property
    def server(self) -> str:
        """The FHIR server's base address."""
        return self._parts()[0]

    @property
    def level(self) -> str:
        """ "system", "Patient" or "Group/ID"."""
        return self._parts()[1]

    @property
    def origin(self) -> str:
        """The address in full, as it is written into the manifest."""
        return self.server if self.level == "system" else f"{self.server}/{self.level}"

    @property
    def all_types(self) -> tuple[str, ...]:
        """The types to export, in order."""
        return tuple(sorted(set(self.types or load_rules().elements)))

    def _parts(self) -> tuple[str, str]:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.userinfo or url.query or url.fragment or not url.host:
            raise SourceError(
                "The address of the FHIR server must be like https://server/fhir, …/fhir/Patient or …/fhir/Group/ID, "
                "without a user, a password or a query. Types, client id and key are options of their own."
            )
        found = _LEVEL.fullmatch(str(url).rstrip("/"))
        assert found is not None  # everything in it may be absent
        return found["server"], found["level"] or "system"
