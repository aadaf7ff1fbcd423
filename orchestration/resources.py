"""What the assets share: the study, with its home folder, its source of records and its settings."""

import json
import os
from datetime import date
from pathlib import Path
from typing import TypeAlias

import dagster as dg
import polars as pl
from pydantic import Field

from features.as_of import seen_on
from features.errors import SequelaError
from features.home import Home
from features.ingest import events_of, shards_of
from features.privacy.keys import Key, load_key
from features.privacy.vault import read_shifts
from features.settings import StudySettings, load_settings
from features.sources.choice import Source, source_named
from features.sources.land import folder_of

PROJECT_STUDY_FILE = Path(__file__).resolve().parent.parent / "study.toml"
StudyChoices: TypeAlias = dict[str, str | int | dict[str, str]]  # fields of Study

_ONCE = "full"  # an option that is meant for one run


def default_home() -> Path:
    """SEQUELA_HOME, else ./sequela-home."""
    return Path(os.environ.get("SEQUELA_HOME") or "sequela-home")


class Study(dg.ConfigurableResource):
    """Where a study lies, what it reads, and the choices that change its results.

    `source` is what a person gives to --from; `source_options` its options by name, such as {"patients": "500"}
    (features.sources.choice). A field left empty takes what the last run of this home used, and before any run: the
    home of `default_home`, the simulated population, the project's study.toml.
    """

    home_folder: str = ""
    source: str = ""
    source_options: dict[str, str] = Field(default_factory=dict)
    study_file: str = ""
    seed: int | None = None
    processes: int | None = None

    @property
    def home(self) -> Home:
        """The home folder and its rooms."""
        return Home(Path(self.home_folder) if self.home_folder else default_home())

    @property
    def chosen_source(self) -> Source:
        """Where the records come from."""
        if self.source:
            return source_named(self.source, self.source_options)
        last = last_choices(self.home)
        options = last.get("source_options", {})
        return source_named(
            last_source(self.home), {**(options if isinstance(options, dict) else {}), **self.source_options}
        )

    @property
    def records(self) -> Path:
        """The folder of FHIR records that are read: the person's own, or where the source lands them."""
        return folder_of(self.chosen_source, self.home)

    @property
    def settings(self) -> StudySettings:
        """The study's settings, with this run's seed when one was given."""
        last = last_choices(self.home)
        named = self.study_file or str(last.get("study_file", ""))
        path = Path(named) if named else PROJECT_STUDY_FILE
        if named and not self.study_file and not path.is_file():
            raise SequelaError(
                f"There is no study file {path} any longer, which the last run of this home read. Name it where it "
                "lies now: `sequela run --study FILE`, or launch with `study_file` under resources, study."
            )
        seed = last.get("seed") if self.seed is None else self.seed
        return load_settings(path if named or path.exists() else None, None if seed is None else int(str(seed)))

    def events(self) -> pl.LazyFrame:
        """All events of all patients, lazily."""
        return events_of(self.home)

    def shards(self, split: str = "*") -> list[pl.LazyFrame]:
        """The same file by file, of all splits or one, for what must not grow with the population."""
        return shards_of(self.home, split)

    def seen_on(self, day: date, last_day: date) -> tuple[pl.LazyFrame, pl.DataFrame]:
        """The events as they were seen at the end of a real day, and that moment in each patient's own time."""
        return seen_on(day, last_day, self.home, self.key())

    def shifts(self) -> pl.DataFrame:
        """Each patient's move in time, from the vault: subject_id, shift_us. Kept in memory only."""
        return read_shifts(self.home.vault, self.key())

    def key(self) -> Key:
        """The study's key, from outside the home."""
        return load_key(keep_away_from=(self.home.path,))

    def remember_choices(self) -> None:
        """Write down source, study file and seed, so that a later run, from Dagster's UI or by night, takes them."""
        named = self.study_file or str(last_choices(self.home).get("study_file", ""))
        is_elsewhere = bool(named) and Path(named).resolve() != PROJECT_STUDY_FILE  # that one moves with the project
        source = self.chosen_source
        choices: StudyChoices = {
            "source": source.named,
            "source_options": {name: value for name, value in source.options.items() if name != _ONCE},
            "study_file": str(Path(named).resolve()) if is_elsewhere else "",
            "seed": self.settings.seed,
        }
        file = _choices_file(self.home)
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(choices, indent=2) + "\n")
        beside.replace(file)


def last_choices(home: Home) -> StudyChoices:
    """What the last run in this home was asked to read, and how; empty when there was none."""
    file = _choices_file(home)
    choices: StudyChoices = json.loads(file.read_text()) if file.exists() else {}
    return choices


def last_source(home: Home) -> str:
    """The source of the last run in this home, as `--from` names it; empty when there was none."""
    last = last_choices(home)
    return str(last.get("source") or last.get("source_folder") or "")  # source_folder: written by version 0.1.0


def _choices_file(home: Home) -> Path:
    return home.path / "last_run.json"
