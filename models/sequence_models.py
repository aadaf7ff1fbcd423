"""Which sequence models does a ladder hold, how are they fitted together, and how do they stand in a saved folder?

The timeline transformer, and one recurrent network: GRU-D, or RETAIN where its own explanation is wanted. All read the
same sequences and answer the same tasks. sequences.json says what is needed to build them, <model>.safetensors holds
the weights of each.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from features.settings import ModelSettings
from models.costs import FIT, timed
from models.hazard_labels import HazardLabels, HazardTask
from models.questions import Question
from models.recurrent import RecurrentRisk, RecurrentSettings, commonest_measured
from models.retain import Retain
from models.risk_transformer import RiskTransformer, TransformerSettings
from models.sequences import Sequences
from models.training import HazardNetwork, fit_network, pretrain_network
from models.training_loop import Run
from models.visit_encoder import EncoderShape, VisitEncoder, encoder_shape
from models.vocabulary import SequenceVocabulary

TRANSFORMER = "timeline_transformer"


class SequenceShape(BaseModel, frozen=True, extra="forbid"):
    """What is needed to build the networks before their weights are put in; `recurrent` is None without one."""

    tasks: list[HazardTask]
    lookback_days: int
    encoder: EncoderShape
    transformer: TransformerSettings
    recurrent: RecurrentSettings | None
    measured: list[int]

    @property
    def intervals(self) -> int:
        """The most follow-up intervals of any task."""
        return max(len(task.edges_days) - 1 for task in self.tasks)


@dataclass(frozen=True)
class SequenceModels:
    """Fitted networks, by their name in the ladder."""

    shape: SequenceShape
    networks: dict[str, HazardNetwork]


def fit_sequence_models(
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    vocabulary: SequenceVocabulary,
    tasks: list[HazardTask],
    transformer: TransformerSettings,
    recurrent: RecurrentSettings | None,
    settings: ModelSettings,
    seed: int,
    checkpoints: Path | None = None,
) -> SequenceModels:
    """Fit every network on the same rows; `checkpoints` is a folder from which a run that was killed goes on.

    The global random state is left as it was.
    """
    shape = SequenceShape(
        tasks=tasks,
        lookback_days=vocabulary.lookback_days,
        encoder=encoder_shape(vocabulary),
        transformer=transformer,
        recurrent=recurrent,
        measured=commonest_measured(sequences, train_rows, recurrent.most_measured) if recurrent else [],
    )
    networks = built(shape, seed)
    for name, network in networks.items():

        def run_of(stage: str, name: str = name) -> Run:
            file = checkpoints / f"{name}_{stage}.pt" if checkpoints else None
            return Run(seed, f"{name.replace('_', ' ')}, {stage}", settings.accelerator, settings.devices, file)

        with timed(name, FIT, len(train_rows)):
            if isinstance(network, RiskTransformer) and transformer.pretraining_epochs:
                pretrain_network(network, sequences, train_rows, tuning_rows, transformer, run_of("pretraining"))
            chosen = transformer if isinstance(network, RiskTransformer) else recurrent
            assert chosen is not None
            fit_network(network, sequences, labels, train_rows, tuning_rows, chosen, run_of("labels"))
    return SequenceModels(shape, networks)


def built(shape: SequenceShape, seed: int = 0) -> dict[str, HazardNetwork]:
    """Networks with first weights. The global random state is left as it was."""
    settings, recurrent, tasks = shape.transformer, shape.recurrent, len(shape.tasks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = VisitEncoder(shape.encoder, settings.width, settings.value_knots, settings.event_dropout)
        networks: dict[str, HazardNetwork] = {
            TRANSFORMER: RiskTransformer(encoder, shape.lookback_days, tasks, shape.intervals, settings)
        }
        if recurrent and recurrent.kind == "retain":
            networks["retain"] = Retain(shape.encoder.tokens, tasks, shape.intervals, recurrent)
        elif recurrent:
            networks["gru_d"] = RecurrentRisk(shape.encoder, shape.measured, tasks, shape.intervals, recurrent)
    return networks


def place_of(shape: SequenceShape, question: Question) -> tuple[int, int]:
    """Where the networks answer a question: the task's place, and how many intervals end by the horizon."""
    place = [task.task for task in shape.tasks].index(question.task)
    return place, shape.tasks[place].edges_days.index(float(question.horizon_days))


def write_sequence_models(models: SequenceModels, folder: Path) -> None:
    """Write sequences.json and the weights."""
    (folder / "sequences.json").write_text(models.shape.model_dump_json(indent=1) + "\n")
    for name, network in models.networks.items():
        safetensors.torch.save_file(network.state_dict(), folder / f"{name}.safetensors")


def read_sequence_models(folder: Path) -> SequenceModels:
    """Read them. Raises OSError, ValueError (a wrong shape) or RuntimeError (weights that do not fit)."""
    shape = SequenceShape.model_validate_json((folder / "sequences.json").read_text())
    networks = built(shape)
    for name, network in networks.items():
        network.load_state_dict(safetensors.torch.load_file(folder / f"{name}.safetensors"))
        network.eval()
    return SequenceModels(shape, networks)
