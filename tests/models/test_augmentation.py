from dataclasses import replace

import numpy as np
import pytest
import torch

from models.augmentation import augmented, siblings_of
from models.batches import SequenceBatch

DAY_US = 86_400_000_000


def batch_of_one_row() -> SequenceBatch:
    """Visits 100, 50 and 10 days before the one row; tokens 1, 2 and 3 in them, and token 4 as its state."""
    days = torch.tensor([[-100, -50, -10, 0]])
    return SequenceBatch(
        moments_us=days * DAY_US,
        days=days,
        ages=torch.full((1, 4), 0.5),
        gaps=torch.zeros(1, 4),
        is_seen=torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]], dtype=torch.bool),
        tokens=torch.tensor([1, 2, 3, 4]),
        values=torch.full((4,), torch.nan),
        is_state=torch.tensor([False, False, False, True]),
        bag_starts=torch.arange(4),
        bag_sizes=torch.ones(4, dtype=torch.int64),
        rows=torch.tensor([0]),
        row_places=torch.tensor([3]),
    )


NOTHING = {"time_jitter_days": 0.0, "crop_share": 0.0, "swap_share": 0.0}
# Headings: 0 holds the tokens 1 to 4, 1 only 1 and 2: the smaller one is the closest.
SIBLINGS = siblings_of([[], [0, 1], [0, 1], [0], [0]], with_values=[])


def test_siblings_are_the_others_of_the_smallest_heading():
    of = [
        SIBLINGS.tokens[start : start + size].tolist()
        for start, size in zip(SIBLINGS.starts, SIBLINGS.sizes, strict=True)
    ]
    assert of == [[], [2], [1], [1, 2, 4], [1, 2, 3]]
    assert siblings_of([[0], [0]], with_values=[1]).sizes.tolist() == [0, 0]  # a value belongs to its code


def test_without_any_change_the_batch_stays():
    batch = batch_of_one_row()
    assert augmented(batch, SIBLINGS, **NOTHING) is batch


def test_visits_move_in_time_by_no_more_than_is_asked_and_rows_stay():
    batch = batch_of_one_row()
    torch.manual_seed(1)
    moved = augmented(batch, SIBLINGS, **NOTHING | {"time_jitter_days": 0.5})
    days = (moved.moments_us - batch.moments_us) / DAY_US
    assert days[0, 3] == 0
    assert days[0, :3].abs().max() <= 0.5
    assert (days[0, :3] != 0).all()
    assert torch.equal(moved.days, batch.days)  # which visits a layer sees stays as it is


def test_a_cut_look_back_keeps_the_newest_visits():
    batch = batch_of_one_row()
    kept = set()
    for seed in range(60):
        torch.manual_seed(seed)
        seen = augmented(batch, SIBLINGS, **NOTHING | {"crop_share": 1.0}).is_seen
        # What the row does not see no visit has seen either, or it would reach the row through a later visit.
        assert torch.equal(seen, batch.is_seen & seen[:, 3:])
        kept.add(tuple(seen[0, 3].tolist()))
    # Nothing, the newest, the two newest, all: never an older visit without a newer one.
    assert kept <= {(False, False, False), (False, False, True), (False, True, True), (True, True, True)}
    assert len(kept) >= 3


def test_a_row_that_sees_no_visit_any_more_has_no_gap():
    batch = replace(batch_of_one_row(), gaps=torch.tensor([[0.0, 0, 0, 10]]))
    for seed in range(20):
        torch.manual_seed(seed)
        cut = augmented(batch, SIBLINGS, **NOTHING | {"crop_share": 1.0})
        assert cut.gaps[0, 3] == (10 if cut.is_seen[0, 3].any() else 0)


def test_events_become_siblings_and_the_state_stays():
    torch.manual_seed(2)
    swapped = augmented(batch_of_one_row(), SIBLINGS, **NOTHING | {"swap_share": 1.0})
    assert swapped.tokens[:2].tolist() == [2, 1]
    assert swapped.tokens[2].item() in {1, 2, 4}
    assert swapped.tokens[3].item() == 4


@pytest.mark.parametrize("share", [0.3])
def test_about_the_share_that_is_asked_is_swapped(share):
    many = replace(
        batch_of_one_row(),
        tokens=torch.ones(4_000, dtype=torch.int64),
        is_state=torch.zeros(4_000, dtype=torch.bool),
    )
    torch.manual_seed(3)
    swapped = augmented(many, SIBLINGS, **NOTHING | {"swap_share": share}).tokens
    # A standard error of sqrt(0.3 * 0.7 / 4000) = 0.007.
    assert np.mean(swapped.numpy() == 2) == pytest.approx(share, abs=0.03)
