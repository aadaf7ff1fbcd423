"""Choices that change results: read from study.toml, frozen, saved beside each model."""

import tomllib
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.errors import SequelaError


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordSettings(_Settings):
    """How records are read."""

    quarantine_share_limit: float = Field(
        0.05, ge=0, le=1, description="A file with a larger share of unreadable records stops the run."
    )
    quarantine_records_allowed: int = Field(
        20, ge=0, description="Up to this many unreadable records never stop a file, whatever their share."
    )
    longest_visit_days: int = Field(60, gt=0, description="A longer visit's end is not believed.")
    longest_stay_days: int = Field(365, gt=0, description="A longer hospital stay's end is not believed.")


class ObservationSettings(_Settings):
    """When the source really records people."""

    data_end: date | None = Field(None, description="Last day the source covers; found in the data when absent.")
    starts: Literal["auto", "window", "first_contact"] = Field(
        "auto",
        description="window: everybody is observed from one calendar day on (Synthea); "
        "first_contact: each person from the first contact on; auto: window when Synthea made the records, unless "
        "it was asked for the whole history.",
    )


class SplitSettings(_Settings):
    """Shares of the patients."""

    train: float = Field(0.60, gt=0, lt=1)
    tuning: float = Field(0.20, gt=0, lt=1)
    held_out: float = Field(0.20, gt=0, lt=1)


class ModelSettings(_Settings):
    """Which sequence models are fitted beside the timeline transformer, and on what."""

    recurrent: Literal["gru_d", "retain", "none"] = Field(
        "gru_d", description="The recurrent network of the ladder: GRU-D, RETAIN (explains itself), or none."
    )
    accelerator: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="Where they are fitted; on the processor a run can be repeated to the bit."
    )
    devices: int = Field(1, ge=1, description="GPUs that share the fitting.")


class StudySettings(_Settings):
    """Every choice of a study that changes its results."""

    seed: int = Field(20_260_101, ge=0, le=2**63 - 1, description="Start of every random draw.")
    lookback_days: int = Field(730, gt=0, description="How far back events count; fixed, so no record length leaks.")
    smallest_cell: int = Field(11, ge=1, description="Counts of people below this are never shown in reports.")
    bootstrap_resamples: int = Field(1_000, ge=20, description="Resamples of patients behind each interval.")
    fewest_subjects_with_event: int = Field(
        10, ge=2, description="A task needs this many train patients with, and without, the outcome."
    )
    fewest_judging_subjects_with_event: int = Field(
        5, ge=1, description="The same for tuning and for held-out patients."
    )
    records: RecordSettings = RecordSettings()
    observation: ObservationSettings = ObservationSettings()
    splits: SplitSettings = SplitSettings()
    models: ModelSettings = ModelSettings()


def load_settings(path: Path | None = None, seed: int | None = None) -> StudySettings:
    """Read a study file, the defaults when `path` is None; `seed`, when given, stands in for its own.

    Raises SequelaError that lists what is wrong.
    """
    if path is not None and not path.is_file():
        raise SequelaError(f"There is no study file {path}.")
    try:
        chosen = {} if path is None else tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SequelaError(f"The study file {path} is not TOML: {error}.") from error
    try:
        return StudySettings.model_validate(chosen if seed is None else chosen | {"seed": seed})
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: "
            + ("no such setting" if one["type"] == "extra_forbidden" else str(one["msg"]))
            for one in error.errors()
        )
        named = "These settings" if path is None else f"The settings of {path.name}"
        raise SequelaError(f"{named} cannot be used: {wrong}. study.toml lists all of them.") from None
