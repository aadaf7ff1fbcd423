from pathlib import Path

import pytest

from models.saved_model import SavedModel, load_model
from models.train import TrainedLadder
from tests.models.planted_ladder import train
from tests.models.planted_population import Population, draw_population


@pytest.fixture(scope="session")
def population() -> Population:
    return draw_population()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home") / "models"


@pytest.fixture(scope="session")
def ladder(population, folder) -> TrainedLadder:
    return train(population, folder)


@pytest.fixture(scope="session")
def saved(ladder, folder) -> SavedModel:
    return load_model(folder)
