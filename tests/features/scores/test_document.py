from pathlib import Path

from features.scores.document import document
from features.scores.registry import SCORES

PAGE = Path(__file__).parents[3] / "docs" / "clinical_scores.md"


def test_the_page_of_the_scores_is_up_to_date():
    assert PAGE.read_text() == document(), "run: python -m features.scores.document docs/clinical_scores.md"


def test_every_input_of_every_score_is_on_the_page():
    page = document()
    for score in SCORES:
        section = page.split(f"## `{score.name}`:")[1].split("\n## ")[0]
        assert all(f"| `{one.name}` |" in section for one in score.inputs)
