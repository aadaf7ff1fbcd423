"""How likely is the outcome by the horizon, when follow-up may end early and death may come first?

Follow-up is cut into intervals. In each interval a patient who is still free of the outcome and alive has three
ways to go on: none, event, death; their chances are a softmax over three logits. Shapes: B patients, K intervals.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NONE, EVENT, DIED = 0, 1, 2


def interval_edges(horizons_days: list[int], parts: int = 4) -> list[float]:
    """Cut follow-up so that every horizon is an edge and each stretch between horizons has `parts` intervals.

    Returns K + 1 days from 0 to the longest horizon: [365] in 4 parts is [0, 91.25, 182.5, 273.75, 365].
    """
    edges = [0.0]
    for horizon in sorted(set(horizons_days)):
        start = edges[-1]
        edges += [start + (horizon - start) * part / parts for part in range(1, parts + 1)]
    return edges


def hazard_targets(
    state: NDArray[np.str_], time_to_event_days: NDArray[np.floating], edges_days: list[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say for each patient how many whole intervals passed without anything, and what happened in the next one.

    state is as in Labels, time_to_event_days in days. Returns survived (B,) and outcome (B,): NONE, EVENT or DIED.
    A patient whose follow-up ended inside an interval counts only for the intervals completed before.
    """
    inner = np.asarray(edges_days[1:])
    outcome = np.select([state == "event", state == "died_first"], [EVENT, DIED], NONE)
    # The interval (edge, next edge] that holds the time: an event on an edge belongs to the interval that it ends.
    holding = np.searchsorted(inner, time_to_event_days, side="left").clip(max=len(inner) - 1)
    completed = np.searchsorted(inner, time_to_event_days, side="right")
    return np.where(outcome == NONE, completed, holding).astype(np.int64), outcome.astype(np.int64)


def hazard_loss(logits: Tensor, survived: Tensor, outcome: Tensor) -> Tensor:
    """Negative log-likelihood of each patient under right censoring with death as a competing risk.

    Shapes: logits (..., K, 3), survived (...), outcome (...) -> (...). The likelihood is the chance of `none` in
    each of the `survived` intervals, times that of the event or the death in the next; a patient with outcome NONE
    has no next one.
    """
    log_chance = logits.log_softmax(dim=-1)  # (..., K, 3)
    interval = torch.arange(logits.shape[-2], device=logits.device)
    passed = (interval < survived[..., None]).to(logits)  # (..., K)
    ends_here = ((interval == survived[..., None]) & (outcome[..., None] != NONE)).to(logits)
    which = outcome[..., None, None].expand(*log_chance.shape[:-1], 1)  # (..., K, 1)
    at_end = log_chance.gather(-1, which).squeeze(-1)
    return -(log_chance[..., NONE] * passed + at_end * ends_here).sum(dim=-1)


def incidence_log_odds(logits: Tensor, intervals: int) -> Tensor:
    """Log-odds of the event by the end of the first `intervals` intervals. Shapes: (..., K, 3) -> (...).

    Worked out in logarithms, so that a very small or very large chance keeps its rank.
    """
    log_chance = logits[..., :intervals, :].double().log_softmax(dim=-1)
    free = log_chance[..., NONE].cumsum(dim=-1)
    free_before = torch.cat([torch.zeros_like(free[..., :1]), free[..., :-1]], dim=-1)
    event = (free_before + log_chance[..., EVENT]).logsumexp(dim=-1)
    died = (free_before + log_chance[..., DIED]).logsumexp(dim=-1)
    return event - torch.logaddexp(died, free[..., -1])
