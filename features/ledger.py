"""What a home remembers of what was read into it, so that the next reading need do only what is new.

Sealed in the vault: it names files and patients.
"""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import polars as pl

from features.home import Home
from features.privacy.keys import Key
from features.privacy.vault import seal_tables, unseal_tables
from features.records.facts import FACTS
from features.records.standing import Standing

LEDGER = "ledger.vault"

SHARED = {"record_id": pl.Int64}
# The row that holds of a record with rows under several patients. is_tied: another was met in the same version.
CONTESTED = {
    "record_id": pl.Int64,
    "subject_id": pl.Int64,
    "stretch": pl.Int64,
    "position": pl.Int64,
    "version_time": pl.Int64,
    "version_number": pl.Int64,
    "export": pl.Int64,
    "is_tied": pl.Boolean,
}


@dataclass(frozen=True)
class HomeState:
    """generation counts the readings; `rules` is a digest of what decides how a text is read, `choices` of the study's
    settings. data_version and shards (their number) tell whether the dataset is still the one that was made then.
    is_tied: some record was met twice in one version, so that its place decides which one holds: one of a patient, of
    several patients, or a Medication.
    """

    generation: int
    buckets: int
    rules: str
    choices: str
    data_end: str
    data_version: str
    shards: int
    is_tied: bool


@dataclass(frozen=True)
class Ledger:
    """The source as it stood at the last reading, and the state of the home made from it.

    shared: the records (record_id) with rows under several patients; contested: of each the row that holds.
    erased: the stretches (stretch) of which rows of patients were left out for good.
    """

    state: HomeState
    standing: Standing
    shared: pl.DataFrame
    contested: pl.DataFrame
    erased: pl.DataFrame

    @property
    def data_end(self) -> date:
        """The last true day that the source covered."""
        return date.fromisoformat(self.state.data_end)


def write_ledger(ledger: Ledger, key: Key, vault: Path) -> None:
    """Seal a ledger in `vault`."""
    standing = ledger.standing
    tables = {
        "state": pl.DataFrame({"state": [json.dumps(asdict(ledger.state))]}),
        "files": standing.files,
        "exports": standing.exports,
        "stretches": standing.stretches,
        "shared": ledger.shared,
        "contested": ledger.contested,
        "erased": ledger.erased,
    }
    seal_tables(key, tables | standing.facts, vault / LEDGER)


def recall(home: Home, key: Key, rules: str, data_version: str | None) -> Ledger | None:
    """The ledger of `home`, if what it tells of can be taken over; else None.

    It cannot when the records were read by other rules, or when the dataset is not of `data_version`, or files of it or
    of the vault are gone.
    """
    path = home.vault / LEDGER
    if not path.exists():
        return None
    tables = unseal_tables(key, path)
    state = HomeState(**json.loads(tables["state"].item()))
    is_whole = (
        state.data_version == data_version
        and len(list(home.meds.glob("data/*/*.parquet"))) == state.shards
        and all(len(list(home.vault.glob(f"{kind}-*.vault"))) == state.buckets for kind in ("records", "events"))
    )
    if state.rules != rules or not is_whole:
        return None
    standing = Standing(tables["files"], tables["exports"], tables["stretches"], {kind: tables[kind] for kind in FACTS})
    return Ledger(state, standing, tables["shared"], tables["contested"], tables["erased"])
