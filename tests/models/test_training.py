from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models.training_loop
from features.errors import ModelError
from models.batches import SequenceBatch, batch_of, batches_of, stretches_of
from models.recurrent import RecurrentSettings
from models.retain import Retain
from models.risk_transformer import HazardHead
from models.training import _task_weights, fit_network, forecast_log_odds, plain_weights_squared
from models.training_loop import Learnt, Run, _share, learning_pace
from models.visit_encoder import partly_hidden
from tests.models.planted_sequences import PlantedSequences, planted_sequences

SETTINGS = RecurrentSettings(width=8, epochs=4, patience=4, places_per_batch=64, learning_rate=1e-2)
Fit = Callable[[Path | None, int], np.ndarray]


@pytest.fixture(scope="module")
def planted() -> PlantedSequences:
    return planted_sequences(60)


@pytest.fixture(scope="module")
def fit(planted: PlantedSequences) -> Fit:
    """Fit a small network from the same first weights, and score the held-out rows."""

    def fitted(checkpoint: Path | None, seed: int) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Retain(len(planted.vocabulary.tokens), 2, 4, SETTINGS)
        train, tuning = planted.rows["train"], planted.rows["tuning"]
        run = Run(seed, "test", checkpoint=checkpoint)
        fit_network(network, planted.sequences, planted.answers, train, tuning, SETTINGS, run)
        return forecast_log_odds(network, planted.sequences, planted.rows["held_out"], [(0, 4), (1, 4)])

    return fitted


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = fit(None, 1)
    made = models.training_loop.batch_of

    def killed_after(batches: int) -> Callable[..., object]:
        left = iter(range(batches))

        def batch_of(*arguments: Any) -> object:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return made(*arguments)

        return batch_of

    checkpoint = tmp_path / "run" / "test.pt"
    for batches in (12, 10):  # after the first epoch, and, gone on from there, once more
        with monkeypatch.context() as patched:
            patched.setattr(models.training_loop, "batch_of", killed_after(batches))
            with pytest.raises(KeyboardInterrupt):
                fit(checkpoint, 1)
        assert checkpoint.exists()
    assert np.array_equal(fit(checkpoint, 1), whole)
    # Everything is done: now there is nothing left to fit, and the same comes out.
    assert np.array_equal(fit(checkpoint, 1), whole)


def test_a_checkpoint_of_another_run_or_one_that_was_cut_off_is_left_alone(fit: Fit, tmp_path: Path):
    checkpoint = tmp_path / "test.pt"
    other = fit(checkpoint, 2)
    whole = fit(None, 1)
    assert not np.array_equal(other, whole)
    assert np.array_equal(fit(checkpoint, 1), whole)
    written = checkpoint.read_bytes()
    for left in (written[:1000], written[:-1000], b"", b"another file"):
        checkpoint.write_bytes(left)
        assert np.array_equal(fit(checkpoint, 1), whole)


def test_labels_that_differ_are_another_run(planted: PlantedSequences, tmp_path: Path):
    checkpoint = tmp_path / "test.pt"
    turned = replace(planted.answers, outcome=planted.answers.outcome.flip(0))
    found = []
    for answers, path in ((turned, checkpoint), (planted.answers, checkpoint), (planted.answers, None)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Retain(len(planted.vocabulary.tokens), 2, 4, SETTINGS)
        train, tuning = planted.rows["train"], planted.rows["tuning"]
        fit_network(network, planted.sequences, answers, train, tuning, SETTINGS, Run(1, "test", checkpoint=path))
        found.append(forecast_log_odds(network, planted.sequences, planted.rows["held_out"], [(0, 4)]))
    assert np.array_equal(found[1], found[2])
    assert not np.array_equal(found[0], found[1])


def test_where_no_tuning_row_can_tell_the_last_weights_are_kept(planted: PlantedSequences):
    network = Retain(len(planted.vocabulary.tokens), 2, 4, SETTINGS)
    before = network.code.weight.detach().clone()
    nobody = np.array([], dtype=np.int64)
    fit_network(network, planted.sequences, planted.answers, planted.rows["train"], nobody, SETTINGS, Run(1, "test"))
    assert (network.code.weight - before).abs().max() > 0.01


def test_two_processes_share_the_batches_and_agree(planted: PlantedSequences):
    """Of each epoch each gets every other batch; their gradients are averaged, so the first one's weights speak for
    both, and they learn as one process does."""
    assert [[int(one[0]) for one in _share([np.array([n]) for n in range(5)], rank, 2)] for rank in (0, 1)] == [
        [0, 2],
        [1, 3],
    ]
    scores = []
    settings = SETTINGS.model_copy(update={"width": 64, "epochs": 2})  # more weights than a pipe holds
    for devices in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Retain(len(planted.vocabulary.tokens), 2, 4, settings)
        train, tuning = planted.rows["train"], planted.rows["tuning"]
        run = Run(1, "test", devices=devices)
        fit_network(network, planted.sequences, planted.answers, train, tuning, settings, run)
        scores.append(forecast_log_odds(network, planted.sequences, planted.rows["held_out"], [(0, 4)])[:, 0])
    assert np.corrcoef(scores[0], scores[1])[0, 1] > 0.5
    assert not np.array_equal(scores[0], scores[1])


def test_two_processes_take_the_step_of_their_mean_gradient(planted: PlantedSequences, monkeypatch: pytest.MonkeyPatch):
    """One step, from one batch each: worked out here in one process."""
    settings = SETTINGS.model_copy(update={"dropout": 0.0, "event_dropout": 0.0, "mean_share": 0.0})
    train = stretches_of(planted.sequences, planted.rows["train"])
    tuning = stretches_of(planted.sequences, planted.rows["tuning"][:0])
    pair = list(batches_of(train, settings.places_per_batch))[:2]
    monkeypatch.setattr(models.training_loop, "shuffled_batches", lambda *_: pair)

    def network() -> Retain:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = Retain(len(planted.vocabulary.tokens), 2, 4, settings)
            torch.nn.init.normal_(made.to_hazards.weight)
        return made

    def loss_of(one: Retain, batch: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return one(batch).square().sum(), torch.tensor(len(batch.rows))

    expected = network()
    for chosen in pair:
        loss, answers = loss_of(expected, batch_of(planted.sequences, train, chosen))
        (loss / answers / 2).backward()
    torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    pace = settings.learning_rate * learning_pace(0)
    torch.optim.AdamW(expected.parameters(), lr=pace, weight_decay=settings.weight_decay, fused=True).step()

    found = network()
    learnt = Learnt(planted.sequences, train, tuning, lambda batch: loss_of(found, batch), lambda batch: batch, "")
    models.training_loop.fit(found, learnt, settings, 1, Run(1, "test", devices=2))
    # The first step of AdamW is as long as the pace wherever there is a gradient at all, so a wrong one shows.
    for name, weights in found.state_dict().items():
        torch.testing.assert_close(weights, expected.state_dict()[name], atol=pace / 20, rtol=0)
    assert (found.code.weight - network().code.weight).abs().max() > pace / 2


def test_rows_are_answered_in_the_order_in_which_they_are_asked(planted: PlantedSequences):
    torch.manual_seed(0)
    network = Retain(len(planted.vocabulary.tokens), 2, 4, SETTINGS)
    torch.nn.init.normal_(network.to_hazards.weight)
    rows = planted.rows["held_out"]
    shuffled = np.random.default_rng(0).permutation(len(rows))
    scores = forecast_log_odds(network, planted.sequences, rows, [(0, 4)])
    found = forecast_log_odds(network, planted.sequences, rows[shuffled], [(0, 4)])
    assert np.allclose(found, scores[shuffled], atol=1e-6)
    assert len(np.unique(scores)) > 10


def test_rare_tasks_weigh_more_by_hand(planted: PlantedSequences):
    rows = torch.from_numpy(planted.rows["train"])
    answers = planted.answers
    events = (answers.outcome[rows] == 1).sum(dim=0).double()
    assert events[0] > events[1]
    weights = _task_weights(answers, rows, 0.5).double()
    # (events + 20) to the power -0.5, and in the mean over all answers 1.
    assert weights[1] / weights[0] == pytest.approx(float(((events[0] + 20) / (events[1] + 20)) ** 0.5))
    answered = answers.is_answered[rows].sum(dim=0)
    assert (weights * answered).sum() / answered.sum() == pytest.approx(1)
    assert _task_weights(answers, rows, 0.0).tolist() == pytest.approx([1, 1])


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_the_accelerator_says_what_to_change(planted: PlantedSequences):
    network = Retain(len(planted.vocabulary.tokens), 2, 4, SETTINGS)
    with pytest.raises(ModelError, match=r"does not have the 2 x cuda .* under \[models\] in study\.toml"):
        fit_network(
            network,
            planted.sequences,
            planted.answers,
            planted.rows["train"],
            planted.rows["tuning"],
            SETTINGS,
            Run(1, "test", accelerator="cuda", devices=2),
        )


def test_the_pull_on_the_weights_of_plain_numbers_by_hand():
    head = HazardHead(width=2, wide=3, tasks=2, intervals=1)
    with torch.no_grad():
        head.straight.weight.fill_(0.5)
    network = Retain(3, 2, 1, SETTINGS)
    assert plain_weights_squared(network) == 0  # it reads no plain numbers
    network.to_hazards = head
    # Two tasks and death, of three numbers each.
    assert plain_weights_squared(network).item() == pytest.approx(9 * 0.25)
