"""Work spread over processes: every piece once, errors as they were raised, a dead child told plainly."""

import os
import signal

import pytest

from features.errors import SequelaError
from features.processes import workers


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def refuse(parent: int) -> int:
    if os.getpid() != parent:
        raise ValueError("not here")
    return 0


def die(parent: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_piece_is_done_once(count):
    pieces = [(number,) for number in range(200)]
    with workers(count) as spread:
        done = list(spread(double, pieces, "doubling", "number"))
        again = list(spread(double, [(7,)], "doubling", "number"))
    assert sorted(number for number, _ in done) == [2 * number for number in range(200)]
    assert len({process for _, process in done}) <= count
    assert [number for number, _ in again] == [14]


def test_an_error_in_another_process_is_raised_here():
    with workers(2) as spread, pytest.raises(ValueError, match="not here"):
        list(spread(refuse, [(os.getpid(),)] * 100_000, "refusing", "piece"))


def test_a_process_that_dies_is_told_with_the_next_step():
    with workers(2) as spread, pytest.raises(SequelaError, match="--processes 1"):
        list(spread(die, [(os.getpid(),)] * 100_000, "dying", "piece"))
