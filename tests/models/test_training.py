import numpy as np
import pytest
import torch

from models.risk_transformer import TransformerSettings, partly_hidden
from models.training import learning_pace, rows_by_epoch


def test_all_train_rows_come_once_before_any_comes_again():
    settings = TransformerSettings(epochs=7, rows_per_epoch=4)
    epochs = rows_by_epoch(np.arange(10, 20), settings, np.random.default_rng(1))
    assert [len(rows) for rows in epochs] == [4] * 7
    in_order = np.concatenate(epochs)  # 28 rows: two passes over ten, and eight of a third
    assert sorted(in_order[:10]) == sorted(in_order[10:20]) == list(range(10, 20))
    assert len(set(in_order[20:])) == 8
    assert in_order[:10].tolist() != in_order[10:20].tolist()


def test_few_train_rows_all_come_in_every_epoch():
    epochs = rows_by_epoch(np.arange(3), TransformerSettings(epochs=2), np.random.default_rng(1))
    assert [sorted(rows) for rows in epochs] == [[0, 1, 2], [0, 1, 2]]


def test_the_learning_rate_rises_for_a_tenth_of_the_steps_and_then_falls_to_nothing():
    # Half a cosine wave, from a tenth on at its full height: (1 + cos(pi / 2)) / 2 = 0.5 in the middle.
    assert learning_pace(0) == pytest.approx(0.01)
    assert learning_pace(0.05) == pytest.approx(0.51 * (1 + np.cos(0.05 * np.pi)) / 2)
    assert learning_pace(0.5) == pytest.approx(0.5)
    assert learning_pace(1) == pytest.approx(0)


def test_a_share_is_hidden_in_training_alone_and_the_mean_stays():
    numbers = torch.ones(999, 101)  # not a multiple of the eight bytes drawn at once
    torch.manual_seed(3)
    hidden = partly_hidden(numbers, 0.25, is_training=True)
    # 64 of 256: kept numbers become 4/3. 100,899 numbers: a standard error of 0.0014 for the share.
    assert hidden.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (hidden == 0).float().mean().item() == pytest.approx(0.25, abs=0.006)
    rows = (hidden == 0).float().mean(dim=1)
    assert rows.min() > 0.05
    assert rows.max() < 0.5
    torch.manual_seed(3)
    assert torch.equal(partly_hidden(numbers, 0.25, is_training=True), hidden)
    assert partly_hidden(numbers, 0.25, is_training=False) is numbers
    assert partly_hidden(numbers, 0.0, is_training=True) is numbers
