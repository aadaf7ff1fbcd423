"""Where everything of one study lies on disk: the home folder and its rooms."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder that holds a study's dataset, tables, models, report and warehouse."""

    path: Path

    @property
    def landed(self) -> Path:
        """What the sources landed, one folder a kind: raw records with names, so for its owner alone (mode 0700)."""
        return self.path / "landed"

    @property
    def meds(self) -> Path:
        """The MEDS dataset."""
        return self.path / "meds"

    @property
    def meds_labels(self) -> Path:
        """The labels as MEDS label files, one a task and horizon."""
        return self.path / "meds_labels"

    @property
    def tables(self) -> Path:
        """One Parquet file a table."""
        return self.path / "tables"

    @property
    def models(self) -> Path:
        """The saved models."""
        return self.path / "models"

    @property
    def trajectory_models(self) -> Path:
        """The saved models of courses."""
        return self.path / "trajectory_models"

    @property
    def report(self) -> Path:
        """The report a reviewer opens."""
        return self.path / "report"

    @property
    def warehouse(self) -> Path:
        """The one file that analysts query."""
        return self.path / "warehouse.duckdb"

    @property
    def vault(self) -> Path:
        """The encrypted way back from pseudonyms; useless without the key, which is kept elsewhere."""
        return self.path / "vault"

    @property
    def summary(self) -> Path:
        """The last run's summary, for machines."""
        return self.path / "summary.json"

    @property
    def dagster(self) -> Path:
        """Dagster's own storage: runs, events, schedules."""
        return self.path / "dagster"
