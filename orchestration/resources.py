"""What the assets share: the study, with its home folder, its source of records and its settings."""

import json
import os
from pathlib import Path

import dagster as dg
import polars as pl

from features.home import Home
from features.ingest import events_of
from features.privacy.keys import Key, load_key
from features.privacy.vault import read_shifts
from features.settings import StudySettings, load_settings
from features.sources.folder import example_patients

PROJECT_STUDY_FILE = Path(__file__).parent.parent / "study.toml"


def default_home() -> Path:
    """SEQUELA_HOME, else ./sequela-home."""
    return Path(os.environ.get("SEQUELA_HOME") or "sequela-home")


class Study(dg.ConfigurableResource):
    """Where a study lies, what it reads, and the choices that change its results.

    A field left empty takes what the last run of this home used, and before any run: the home of
    `default_home`, the shipped example patients, the project's study.toml.
    """

    home_folder: str = ""
    source_folder: str = ""
    study_file: str = ""
    seed: int | None = None
    processes: int | None = None

    @property
    def home(self) -> Home:
        """The home folder and its rooms."""
        return Home(Path(self.home_folder) if self.home_folder else default_home())

    @property
    def source(self) -> Path:
        """The folder of FHIR records."""
        named = self.source_folder or self._last_choice("source_folder")
        return Path(named) if named else example_patients()

    @property
    def settings(self) -> StudySettings:
        """The study's settings, with this run's seed when one was given."""
        named = self.study_file or self._last_choice("study_file")
        path = Path(named) if named else PROJECT_STUDY_FILE
        settings = load_settings(path if named or path.exists() else None)
        seed = self._last_choice("seed") if self.seed is None else self.seed
        return settings if seed == "" else settings.model_copy(update={"seed": int(seed)})

    def events(self) -> pl.LazyFrame:
        """All events of all patients, lazily."""
        return events_of(self.home)

    def shifts(self) -> pl.DataFrame:
        """Each patient's move in time, from the vault: subject_id, shift_us. Kept in memory only."""
        return read_shifts(self.home.vault, self.key())

    def key(self) -> Key:
        """The study's key, from outside the home."""
        return load_key(keep_away_from=(self.home.path,))

    def remember_choices(self) -> None:
        """Write down source, study file and seed, so that a later run from Dagster's UI takes the same."""
        named = self.study_file or self._last_choice("study_file")
        choices = {
            "source_folder": str(self.source.resolve()),
            "study_file": str(Path(named).resolve()) if named else "",
            "seed": self.settings.seed,
        }
        beside = self._choices_file.with_suffix(".new")
        beside.write_text(json.dumps(choices, indent=2) + "\n")
        beside.replace(self._choices_file)

    @property
    def _choices_file(self) -> Path:
        return self.home.path / "last_run.json"

    def _last_choice(self, name: str) -> str:
        if not self._choices_file.exists():
            return ""
        return str(json.loads(self._choices_file.read_text()).get(name, ""))
