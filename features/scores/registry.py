"""Which clinical scores are there? Each file of this folder that holds scores lists them in `SCORES`."""

from collections.abc import Sequence

from features.scores import ada, caide, egfr, findrisc, kfre, pce, prevent
from features.scores.engine import Score

SCORES: tuple[Score, ...] = (
    *egfr.SCORES,
    *prevent.SCORES,
    *pce.SCORES,
    *kfre.SCORES,
    *findrisc.SCORES,
    *ada.SCORES,
    *caide.SCORES,
)


def load_scores(names: Sequence[str] | None = None) -> list[Score]:
    """The scores of these names, in the order of the registry; all when None. Raises KeyError for an unknown name."""
    known = {score.name: score for score in SCORES}
    if unknown := sorted(set(names or ()) - set(known)):
        raise KeyError(f"Unknown clinical scores: {', '.join(unknown)}. Known are {', '.join(known)}.")
    return list(known.values()) if names is None else [score for name, score in known.items() if name in names]
