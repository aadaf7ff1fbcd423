"""This project's side of benchmarks.training: the sequences, the networks, their pace, scoring everybody in a home."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from features.settings import StudySettings
from models.batches import PLACES_PER_FORECAST, Stretches, batch_of, batches_of, shuffled_batches, stretches_of
from models.hazard_labels import HazardLabels, HazardTask, hazard_labels
from models.hazards import hazard_loss, incidence_log_odds, interval_edges
from models.questions import KEYS
from models.recurrent import RecurrentSettings, commonest_measured
from models.risk_transformer import TransformerSettings
from models.sequence_models import SequenceShape, built
from models.sequences import Sequences, Spans, ages_years, build_sequences, seen_events
from models.training import HazardNetwork
from models.visit_encoder import encoder_shape
from models.vocabulary import SequenceVocabulary, chronic_groups, fit_vocabulary

PREDICTION_TIMES = 32
FILES_PER_CHUNK = 6


@dataclass(frozen=True)
class Pace:
    """Seconds of one pass, on the clock and of processor, and the matrix operations that it took, where counted."""

    seconds: float
    cpu_seconds: float
    flops: int = 0


class Sample(TypedDict):
    """A patient as the peer reads one: the codes of each visit, and one label."""

    visits: list[list[str]]
    label: str


@dataclass(frozen=True)
class Prepared:
    """One stretch for each patient, its labels, and the same visits as the peer reads them (`samples`).

    events and visits are those of the samples; labelled are the answered questions of all prediction times.
    """

    vocabulary: SequenceVocabulary
    sequences: Sequences
    labels: HazardLabels
    stretches: Stretches
    tasks: list[HazardTask]
    measured: list[int]
    samples: list[Sample]

    @property
    def patients(self) -> int:
        """How many there are."""
        return len(self.stretches)

    @property
    def visits(self) -> int:
        """How many visits the samples hold."""
        return sum(len(one["visits"]) for one in self.samples)

    @property
    def events(self) -> int:
        """How many events the samples hold."""
        return sum(len(visit) for one in self.samples for visit in one["visits"])

    @property
    def labelled(self) -> int:
        """How many questions are answered."""
        return int(self.labels.is_answered[self.stretches.rows].sum())


def prepare(home: Path, patients: int) -> Prepared:
    """The newest prediction times of the first train patients who have visits, and what they look back on."""
    labels = pl.read_parquet(home / "tables" / "labels.parquet").filter(pl.col("split") == "train")
    chosen = labels["subject_id"].unique().sort().head(patients)
    labels = labels.filter(pl.col("subject_id").is_in(chosen.implode()))
    keys = labels.select(KEYS).unique().sort(KEYS).group_by("subject_id", maintain_order=True).tail(PREDICTION_TIMES)
    events = pl.scan_parquet(home / "meds" / "data" / "train" / "*.parquet", hive_partitioning=False)
    events = events.filter(pl.col("subject_id").is_in(chosen.implode())).collect().lazy()
    vocabulary = vocabulary_of(events, keys)
    sequences = build_sequences(events, keys, vocabulary)
    tasks = hazard_tasks(labels)
    answers = hazard_labels(labels, keys, tasks)
    stretches = stretches_of(sequences, np.arange(keys.height), PREDICTION_TIMES)
    has_visits = np.flatnonzero(stretches.visits.sizes)
    rows = stretches.rows[stretches.spans[has_visits].places()]
    stretches = stretches_of(sequences, rows, PREDICTION_TIMES)
    common = int(answers.is_answered.sum(dim=0).argmax())
    had_event = (answers.outcome[:, common] == 1).long().tolist()
    samples: list[Sample] = [
        {"visits": _words(sequences, vocabulary, stretches.visits[place]), "label": str(had_event[row])}
        for place, row in zip(np.arange(len(stretches))[:, None], last_places(stretches), strict=True)
    ]
    measured = commonest_measured(sequences, stretches.rows, RecurrentSettings().most_measured)
    return Prepared(vocabulary, sequences, answers, stretches, tasks, measured, samples)


def vocabulary_of(events: pl.LazyFrame, keys: pl.DataFrame) -> SequenceVocabulary:
    """The vocabulary of these prediction times."""
    settings = StudySettings()
    recent = seen_events(events, keys, settings.lookback_days)
    return fit_vocabulary(recent, ages_years(events, keys), chronic_groups(), settings)


def hazard_tasks(labels: pl.DataFrame) -> list[HazardTask]:
    """Every task with its follow-up cut as usual. Reads Labels."""
    horizons = labels.group_by("task").agg(pl.col("horizon_days").unique()).sort("task")
    return [HazardTask(task, interval_edges(days)) for task, days in horizons.iter_rows()]


def last_places(stretches: Stretches) -> NDArray[np.int64]:
    """The last row of each stretch: its newest prediction time."""
    return stretches.rows[stretches.spans.starts + stretches.spans.sizes - 1]


def network(prepared: Prepared, name: str, width: int, layers: int = 2) -> HazardNetwork:
    """A fresh network of one kind, with the usual settings but for its width, and for the transformer its layers."""
    is_recurrent = name != "timeline_transformer"
    shape = SequenceShape(
        tasks=prepared.tasks,
        lookback_days=prepared.vocabulary.lookback_days,
        encoder=encoder_shape(prepared.vocabulary),
        transformer=TransformerSettings(width=8 if is_recurrent else width, lookback_shares=(1 / layers,) * layers),
        recurrent=RecurrentSettings.model_validate({"kind": name, "width": width}) if is_recurrent else None,
        measured=prepared.measured,
    )
    return built(shape)[name]


def closest_width(prepared: Prepared, name: str, parameters: int) -> int:
    """The width, a multiple of eight, at which the network has most nearly so many parameters."""
    with torch.device("meta"):
        sizes = {
            width: sum(weights.numel() for weights in network(prepared, name, width).parameters())
            for width in range(8, 257, 8)
        }
    return min(sizes, key=lambda width: abs(sizes[width] - parameters))


def paced(prepared: Prepared, model: nn.Module, device: str = "cpu", places_per_batch: int = 0) -> tuple[Pace, Pace]:
    """One pass of training and one of prediction, each after one that is not counted."""
    places = places_per_batch or TransformerSettings().places_per_batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    newest = stretches_of(prepared.sequences, last_places(prepared.stretches), 1)
    train_pass(prepared, model, optimiser, device, places)
    began = _moment(device)
    train_pass(prepared, model, optimiser, device, places)
    trained = _moment(device)
    predict_pass(prepared.sequences, newest, model, device)
    warm = _moment(device)
    predict_pass(prepared.sequences, newest, model, device)
    done = _moment(device)
    flops = 0
    if device != "cpu":
        with FlopCounterMode(display=False) as counter:  # of its own pass: counting takes time
            train_pass(prepared, model, optimiser, device, places)
        flops = counter.get_total_flops()
    return Pace(trained[0] - began[0], trained[1] - began[1], flops), Pace(done[0] - warm[0], done[1] - warm[1])


def train_pass(
    prepared: Prepared, model: nn.Module, optimiser: torch.optim.Optimizer, device: str, places_per_batch: int
) -> None:
    """Every stretch once, as training does it; in bf16 where the device is not the CPU."""
    model.train()
    labels = prepared.labels
    survived, outcome, is_answered = (x.to(device) for x in (labels.survived, labels.outcome, labels.is_answered))
    for chosen in shuffled_batches(prepared.stretches, places_per_batch, np.random.default_rng(0)):
        batch = batch_of(prepared.sequences, prepared.stretches, chosen).to(torch.device(device))
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            logits = model(batch)
        loss = hazard_loss(logits.float(), survived[batch.rows], outcome[batch.rows])[is_answered[batch.rows]].mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def predict_pass(sequences: Sequences, stretches: Stretches, model: nn.Module, device: str = "cpu") -> int:
    """The risk of every task by its last interval for every row; returns how many rows were scored."""
    model.eval()
    scored = 0
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        for chosen in batches_of(stretches, PLACES_PER_FORECAST):
            logits = model(batch_of(sequences, stretches, chosen).to(torch.device(device)))  # (N, Q, K, 3)
            scored += len(incidence_log_odds(logits, logits.shape[2]).cpu())
    return scored


def shard_groups(home: Path) -> list[list[Path]]:
    """The files of events in small groups, one piece of work each. A patient's events lie in one file."""
    files = sorted((home / "meds" / "data").rglob("*.parquet"))
    return [files[start : start + FILES_PER_CHUNK] for start in range(0, len(files), FILES_PER_CHUNK)]


def whole_network(home: Path) -> tuple[SequenceVocabulary, nn.Module]:
    """A vocabulary of some train patients, and a transformer of the usual size for every task of the home."""
    prepared = prepare(home, 1_000)
    return prepared.vocabulary, network(prepared, "timeline_transformer", TransformerSettings().width)


def score_files(home: Path, model: tuple[SequenceVocabulary, nn.Module], files: list[Path]) -> tuple[int, float]:
    """Score each patient in some files at the last prediction time: read, build, forecast.

    Returns how many patients, and seconds of processor.
    """
    began = time.process_time()
    torch.set_num_threads(1)
    events = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])
    here = events["subject_id"].unique().implode()
    times = pl.scan_parquet(home / "tables" / "labels.parquet").filter(pl.col("subject_id").is_in(here))
    keys = times.group_by("subject_id").agg(pl.col("prediction_time").max()).sort("subject_id").collect()
    vocabulary, made = model
    sequences = build_sequences(events.lazy(), keys, vocabulary)
    scored = predict_pass(sequences, stretches_of(sequences, np.arange(keys.height), 1), made)
    return scored, time.process_time() - began


def _words(sequences: Sequences, vocabulary: SequenceVocabulary, visits: Spans) -> list[list[str]]:
    """The codes of each visit of one stretch."""
    tokens = sequences.events["token"].to_numpy()
    stops = sequences.visit_ends
    return [[vocabulary.tokens[token] for token in tokens[stops[p] : stops[p + 1]]] for p in visits.places()]


def _moment(device: str) -> tuple[float, float]:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()
