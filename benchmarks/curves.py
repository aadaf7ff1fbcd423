"""Learning curves as numbers and as a table: AUROC by model, arm of training and number of labelled patients."""

import numpy as np

from benchmarks.league_figures import Figures
from models.ladder import NOT_SIMPLE


def curves_of(fits: dict[str, dict[str, float]]) -> Figures:
    """Mean, lowest, highest and number of repeats by task@days, then "model" or "model, arm", then size."""
    first = next(iter(fits), "").partition("/")[0]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, aurocs in fits.items():
        arm, size, _ = name.split("/")
        for key, auroc in aurocs.items():
            model, _, question = key.partition("@")
            if model in NOT_SIMPLE or arm == first:
                line = f"{model}, {arm}" if model in NOT_SIMPLE else model
                found.setdefault(question, {}).setdefault(line, {}).setdefault(size, []).append(auroc)
    return {
        question: {
            line: {
                size: {"mean": round(float(np.mean(of)), 4), "low": min(of), "high": max(of), "repeats": len(of)}
                for size, of in sizes.items()
            }
            for line, sizes in lines.items()
        }
        for question, lines in sorted(found.items())
    }


def curve_lines(curves: Figures) -> list[str]:
    """The curves as a table in Markdown."""
    sizes = list(dict.fromkeys(size for lines in curves.values() for line in lines.values() for size in line))
    told = [f"| question | model | {' | '.join(sizes)} |", "| --- " * (len(sizes) + 2) + "|"]
    for question, lines in curves.items():
        for line, found in lines.items():
            cells = [_told(found[size]) if size in found else "–" for size in sizes]
            told.append(f"| `{question}` | {line} | {' | '.join(cells)} |")
    return told


def _told(found: Figures) -> str:
    """The mean, and the lowest and highest where there is more than one."""
    mean = f"{found['mean']:.3f}"
    return mean if found["repeats"] == 1 else f"{mean} ({found['low']:.3f} to {found['high']:.3f})"
