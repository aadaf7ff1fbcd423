"""What does a person mean by `--from`? A word for a source of ours, the address of a FHIR server, or a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from features.errors import SourceError

Kind = Literal["simulated", "synthea", "examples", "fhir_server", "folder"]

_WORDS: tuple[Kind, ...] = ("simulated", "synthea", "examples")
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "simulated": ("patients", "format"),
    "synthea": ("patients", "state", "city"),
    "fhir_server": ("types", "client_id", "client_key", "token_url", "scope", "full"),
    "examples": (),
    "folder": (),
}
OPTIONS = tuple(dict.fromkeys(option for options in _OPTIONS.values() for option in options))
_PATIENTS: dict[Kind, int] = {"simulated": 3_000, "synthea": 500}  # unless somebody says how many
_IN_WORDS: dict[Kind, str] = {
    "simulated": "`--from simulated`",
    "synthea": "`--from synthea`",
    "examples": "the example patients",
    "fhir_server": "a FHIR server",
    "folder": "a folder",
}


@dataclass(frozen=True)
class Source:
    """Where records come from. `named` is a word, an address or a whole path; `options` are those that were given."""

    kind: Kind
    named: str
    options: Mapping[str, str]

    @property
    def patients(self) -> int:
        """How many patients to make. Raises SourceError when what was given is no number above 0."""
        given = self.options.get("patients", str(_PATIENTS.get(self.kind, 0)))
        if not given.isdecimal() or int(given) < 1:
            raise SourceError(f"patients: {given!r} is not a number above 0.")
        return int(given)


def is_of_ours(named: str) -> bool:
    """Whether this names nobody's own records: a word of ours, or nothing."""
    return _kind_of(named) not in ("folder", "fhir_server")


def source_named(named: str, options: Mapping[str, str]) -> Source:
    """Understand what was typed; nothing typed means the simulated population.

    A folder that is called like one of our words is written with its path: `./synthea`.
    Raises SourceError for a folder that is not there, for options that this source does not have, and for an address
    with a password or a query: it is written down for later runs.
    """
    kind = _kind_of(named)
    if kind == "folder" and not Path(named).exists():
        close = get_close_matches(named.lower(), _WORDS, n=1)
        raise SourceError(
            f"There is no folder {named}. {f'Did you mean {close[0]}? ' if close else ''}--from understands "
            f"{', '.join(_WORDS)}, the https:// address of a FHIR server, and a folder of FHIR R4 records."
        )
    for option in options:
        if option not in _OPTIONS[kind]:
            owners = " and ".join(_IN_WORDS[owner] for owner in _OPTIONS if option in _OPTIONS[owner])
            flag = f"--{option.replace('_', '-')}"
            raise SourceError(
                f"{flag} is for {owners}; leave it out when reading from {_IN_WORDS[kind]}."
                if owners
                else f"There is no option {option} of a source. Options: {', '.join(OPTIONS)}."
            )
    if kind == "fhir_server" and ("@" in urlsplit(named).netloc or urlsplit(named).query):
        raise SourceError(
            "The address of the FHIR server holds a user, a password or a query, which would be written down for "
            "later runs. Leave them out of --from; a server that asks who you are takes --client-id and --client-key."
        )
    given = {name: str(Path(value).resolve()) if name == "client_key" else value for name, value in options.items()}
    return Source(kind, str(Path(named).resolve()) if kind == "folder" else named or "simulated", given)


def _kind_of(named: str) -> Kind:
    if not named:
        return "simulated"
    if named.lower().startswith(("https://", "http://")):
        return "fhir_server"
    return next((word for word in _WORDS if word == named), "folder")
