"""What is a saved ladder? A folder of plain numbers and text, each file sealed by its hash; nothing is executed.

settings.json, feature_definitions.parquet, vocabulary.json, contract.json (the tables it expects), ladder.json
(questions, released models, thresholds, linear models, weights of the stack, calibration), trees/<n>.txt (LightGBM's
own text), sequences.json with the weights of each sequence model as safetensors. The version of a model is the digest
of the files' hashes, so the same inputs and seed give the same version.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ValidationError

from features.errors import ModelError
from features.settings import StudySettings
from models.baselines import LinearModel
from models.calibration import Recalibration
from models.familiarity import Familiarity
from models.questions import Question
from models.sealed_folder import open_sealed, write_json, write_sealed
from models.sequence_models import SequenceModels, read_sequence_models, write_sequence_models
from models.stack import Stack
from models.vocabulary import SequenceVocabulary

FORMAT = 5
HOW_TO_MAKE = "Run `sequela run` to train one."
LIBRARIES = ("lightgbm", "numpy", "polars", "scikit-learn", "torch")


class ReleasedModel(BaseModel, frozen=True, extra="forbid"):
    """Everything about one question but the sequence models, which all questions share.

    `familiarity` and `most_unknown` (share of codes) say of whom no risk is told.
    """

    task: str
    horizon_days: int
    released: str
    thresholds: dict[str, float]
    calibration: dict[str, Recalibration]
    linear: dict[str, LinearModel]
    stack: Stack
    familiarity: Familiarity
    most_unknown: float


class Ladder(BaseModel, frozen=True, extra="forbid"):
    """The questions that were answered; none when every task was skipped."""

    questions: list[ReleasedModel]


class Contract(BaseModel, frozen=True, extra="forbid"):
    """The tables a model reads: features by name, in order, all Float32; and how the folder is laid out."""

    format: int
    feature_columns: list[str]


@dataclass(frozen=True)
class SavedModel:
    """A ladder, in memory. `trees` holds LightGBM's text by question; sequence models and vocabulary are None
    when every task was skipped."""

    settings: StudySettings
    definitions: pl.DataFrame
    questions: dict[Question, ReleasedModel]
    trees: dict[Question, str]
    sequence_models: SequenceModels | None
    vocabulary: SequenceVocabulary | None
    version: str

    @property
    def feature_columns(self) -> list[str]:
        """Names of the feature table's columns, in order."""
        return self.definitions["feature"].to_list()


def save_model(model: SavedModel, folder: Path) -> str:
    """Write the folder whole, or leave the one before; returns the version. The version in `model` is ignored."""
    return write_sealed(folder, lambda place: _write_files(model, place), LIBRARIES)


def load_model(folder: Path) -> SavedModel:
    """Read a saved ladder, after checking every file against its hash.

    Raises ModelError when the folder is missing, was changed after it was written, or was written by another
    version of this program.
    """
    place, version = open_sealed(folder, HOW_TO_MAKE)
    try:
        return _read_files(place, version)
    except (ValidationError, KeyError, TypeError, AttributeError, ValueError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The saved model in {folder.name}/ cannot be read ({type(error).__name__}); probably written by "
            f"another version of this program. {HOW_TO_MAKE}"
        ) from error


def _write_files(model: SavedModel, folder: Path) -> None:
    write_json(folder / "settings.json", model.settings.model_dump(mode="json"))
    model.definitions.write_parquet(folder / "feature_definitions.parquet", compression="zstd")
    contract = Contract(format=FORMAT, feature_columns=model.feature_columns)
    write_json(folder / "contract.json", contract.model_dump(mode="json"))
    ladder = Ladder(questions=[model.questions[question] for question in sorted(model.questions)])
    write_json(folder / "ladder.json", ladder.model_dump(mode="json"))
    (folder / "trees").mkdir()
    for place, question in enumerate(sorted(model.trees)):
        (folder / "trees" / f"{place}.txt").write_text(model.trees[question])
    if model.sequence_models and model.vocabulary:
        write_json(folder / "vocabulary.json", model.vocabulary.model_dump(mode="json"))
        write_sequence_models(model.sequence_models, folder)


def _read_files(folder: Path, model_version: str) -> SavedModel:
    if Contract.model_validate_json((folder / "contract.json").read_text()).format != FORMAT:
        raise ValueError("the folder is laid out otherwise")
    ladder = Ladder.model_validate_json((folder / "ladder.json").read_text())
    questions = {Question(entry.task, entry.horizon_days): entry for entry in ladder.questions}
    vocabulary, sequence_models = None, None
    if (folder / "sequences.json").exists():
        vocabulary = SequenceVocabulary.model_validate_json((folder / "vocabulary.json").read_text())
        sequence_models = read_sequence_models(folder)
    return SavedModel(
        settings=StudySettings.model_validate_json((folder / "settings.json").read_text()),
        definitions=pl.read_parquet(folder / "feature_definitions.parquet"),
        questions=questions,
        trees={
            question: (folder / "trees" / f"{place}.txt").read_text()
            for place, question in enumerate(sorted(questions))
        },
        sequence_models=sequence_models,
        vocabulary=vocabulary,
        version=model_version,
    )
