"""Which clinical scores are there? Each file of this folder that holds scores lists them in `SCORES`."""

from collections.abc import Sequence

import polars as pl

from features.scores import (
    ada,
    caide,
    cha2ds2_vasc,
    charlson,
    egfr,
    findrisc,
    hospital,
    kfre,
    lace,
    news2,
    pce,
    prevent,
)
from features.scores.engine import Score

SCORES: tuple[Score, ...] = (
    *charlson.SCORES,
    *lace.SCORES,
    *hospital.SCORES,
    *news2.SCORES,
    *cha2ds2_vasc.SCORES,
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
    return [score for name, score in known.items() if names is None or name in names]


def answerable(codes: pl.DataFrame) -> list[str]:
    """The names of the scores that records with these codes can answer.

    Reads:    `codes`: code, every code of the records. A score that needs a kind of record (LACE: emergency visits) is
              left out where the records hold none of it: then nobody's "none" means anything.
    """
    met = set(codes["code"])
    return [score.name for score in SCORES if score.needs is None or score.needs in met]
