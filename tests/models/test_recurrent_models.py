from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from features.settings import ModelSettings
from models.questions import KEYS
from models.recurrent import RecurrentSettings
from models.risk_transformer import TransformerSettings
from models.sequence_models import SequenceModels, fit_sequence_models, read_sequence_models, write_sequence_models
from models.training import forecast_log_odds
from tests.models.planted_sequences import planted_sequences

TRANSFORMER = TransformerSettings(width=8, heads=1, lookback_shares=(1.0,), epochs=1, pretraining_epochs=1)
SMALL = RecurrentSettings(width=16, epochs=10, places_per_batch=256, learning_rate=1e-2, dropout=0.0)


@pytest.mark.parametrize("kind", ["gru_d", "retain"])
def test_a_planted_signal_is_learnt_again_alike_and_saved(kind: str, tmp_path: Path):
    planted = planted_sequences()
    settings = SMALL.model_copy(update={"kind": kind})

    def fitted() -> SequenceModels:
        before = torch.random.get_rng_state()
        made = fit_sequence_models(
            planted.sequences,
            planted.answers,
            planted.rows["train"],
            planted.rows["tuning"],
            planted.vocabulary,
            planted.tasks,
            TRANSFORMER,
            settings,
            ModelSettings(),
            seed=1,
        )
        assert torch.equal(torch.random.get_rng_state(), before)
        return made

    def scored(models: SequenceModels, name: str) -> np.ndarray:
        return forecast_log_odds(models.networks[name], planted.sequences, planted.rows["held_out"], [(0, 4)])[:, 0]

    models = fitted()
    scores = scored(models, kind)
    torch.rand(1)  # what others draw in between changes nothing
    again = fitted()
    write_sequence_models(models, tmp_path)
    read = read_sequence_models(tmp_path)
    assert read.shape == models.shape
    for name in ("timeline_transformer", kind):
        assert np.array_equal(scored(again, name), scored(models, name))
        assert np.array_equal(scored(read, name), scored(models, name))
    held_out = planted.sequences.keys[planted.rows["held_out"]]
    judged = held_out.join(planted.labels, on=KEYS, maintain_order="left")
    is_judged = (judged["state"] != "censored").to_numpy()
    had_event = (judged["state"] == "event").to_numpy()
    # With the planted code 80 % have the event, without it 4 %: who knows the code alone reaches about 0.9.
    assert roc_auc_score(had_event[is_judged], scores[is_judged]) > 0.8
