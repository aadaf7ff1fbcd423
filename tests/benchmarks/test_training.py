from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.training import measured
from benchmarks.training_ours import Prepared, closest_width, last_places, network, prepare, score_files, shard_groups
from tests.models.planted_population import draw_population


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The train patients of the planted population, as a home holds them."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tables").mkdir()
    (folder / "meds" / "data" / "train").mkdir(parents=True)
    population = draw_population(60)
    labels = population.labels.filter(pl.col("split") == "train")
    labels.write_parquet(folder / "tables" / "labels.parquet")
    train = population.events.join(labels, on="subject_id", how="semi")
    train.write_parquet(folder / "meds" / "data" / "train" / "0.parquet")
    return folder


@pytest.fixture(scope="module")
def prepared(home: Path) -> Prepared:
    return prepare(home, 20)


def test_the_peer_reads_the_same_visits(prepared: Prepared):
    sequences = prepared.sequences
    assert prepared.patients == len(prepared.samples) == 20
    assert prepared.visits == prepared.stretches.visits.sizes.sum()
    sizes = np.diff(sequences.visit_ends)[prepared.stretches.visits.places()]
    assert prepared.events == sizes.sum()
    words = {word for one in prepared.samples for visit in one["visits"] for word in visit}
    assert words <= set(prepared.vocabulary.tokens)
    assert {one["label"] for one in prepared.samples} == {"0", "1"}
    times = sequences.keys["prediction_time"].to_numpy()
    newest = sequences.keys.group_by("subject_id").agg(pl.col("prediction_time").max())
    assert set(times[last_places(prepared.stretches)]) == set(newest["prediction_time"].to_numpy())


@pytest.mark.parametrize("name", ["timeline_transformer", "gru_d", "retain"])
def test_each_network_is_measured_at_the_width_of_equal_parameters(prepared: Prepared, name: str):
    wanted = sum(weights.numel() for weights in network(prepared, name, 24).parameters())
    assert closest_width(prepared, name, wanted) == 24
    threads = torch.get_num_threads()
    figures = measured(prepared, name, 24, threads=1)
    assert figures["parameters"] == wanted
    # The same seconds stand under both rates.
    assert figures["labels_per_s"] / figures["events_per_s"] == pytest.approx(
        prepared.labelled / prepared.events, rel=0.02
    )
    assert torch.get_num_threads() == threads


def test_everybody_in_the_files_is_scored(home: Path, prepared: Prepared):
    model = (prepared.vocabulary, network(prepared, "timeline_transformer", 16))
    assert score_files(home, model, shard_groups(home)[0])[0] == 36  # three of five in sixty are train patients
