from datetime import datetime, timedelta
from math import sqrt

import numpy as np
import polars as pl
import pytest
import torch
from torch.testing import assert_close

from models.batches import SequenceBatch, batch_of, stretches_of
from models.explanation import event_contributions
from models.hazards import EVENT, NONE
from models.recurrent import (
    GruD,
    PackedSteps,
    RecurrentRisk,
    RecurrentSettings,
    RowSteps,
    commonest_measured,
    faded,
    measured_values,
    packed,
    row_steps,
)
from models.retain import Retain, ReverseAttention, newest_first
from models.sequences import Sequences, build_sequences
from models.visit_encoder import EncoderShape
from models.vocabulary import NumberScale, SequenceVocabulary
from tests.models.planted_population import events_table

NOON = datetime(2015, 6, 1, 12)
GLUCOSE = "LOINC//2339-0"
VOCABULARY = SequenceVocabulary(
    tokens=["(nothing known)", "SEX//female", "A//1", "B//1", GLUCOSE],
    scales={GLUCOSE: NumberScale(unit="mg/dL", values=[80, 100, 120], levels=[0.25, 0.5, 0.75])},
    chronic_groups=[],
    lookback_days=730,
    median_age_years=50,
)
SHAPE = EncoderShape(tokens=5, headings=[[] for _ in range(5)], with_values=[4], counted=[2, 3])
SMALL = RecurrentSettings(width=8, most_visits=4)
DAYS = [800, 500, 400, 30, 20, 10]


def days_ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def timeline(*days: float, extra: tuple[dict[str, object], ...] = ()) -> Sequences:
    """One woman with code A and a glucose of 120 at each of `days` before noon, asked at noon and 15 days before."""
    visits = [
        {"time": days_ago(day)} | what
        for day in days
        for what in ({"code": "A//1"}, {"code": GLUCOSE, "numeric_value": 120.0, "unit": "mg/dL"})
    ]
    facts = [{"time": days_ago(40 * 365.25), "code": "MEDS_BIRTH"}, {"code": "SEX//female"}, *visits, *extra]
    events = events_table([{"subject_id": 1} | fact for fact in facts]).lazy()
    keys = pl.DataFrame({"subject_id": [1, 1], "prediction_time": [days_ago(15), NOON]})
    return build_sequences(events, keys, VOCABULARY)


def whole_batch(sequences: Sequences, rows: list[int] | None = None, most: int = 32) -> SequenceBatch:
    stretches = stretches_of(sequences, np.array([0, 1] if rows is None else rows), most)
    return batch_of(sequences, stretches, np.arange(len(stretches)))


def networks() -> list[RecurrentRisk | Retain]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = [RecurrentRisk(SHAPE, [4], 2, 3, SMALL), Retain(5, 2, 3, SMALL)]
        for network in made:
            for weights in network.to_hazards.parameters():  # so that answers differ visibly
                torch.nn.init.normal_(weights)
            for weights in network.parameters():  # what has no weight yet could hide a look ahead
                if not weights.any():
                    torch.nn.init.normal_(weights, std=0.3)
    return [network.eval() for network in made]


def test_each_row_reads_its_newest_visits_and_ends_at_itself():
    steps = row_steps(whole_batch(timeline(*DAYS)), most_visits=4)
    # 15 days before noon the visits 500, 400, 30 and 20 days before lie within 730 days; at noon also that of day 10,
    # so that of day 500 is one too many.
    assert steps.lengths.tolist() == [5, 5]
    assert_close(steps.gaps_years * 365.25, torch.tensor([[0.0, 100, 370, 10, 5], [0, 370, 10, 10, 10]]))


def test_a_row_without_any_past_reads_itself_alone():
    steps = row_steps(whole_batch(timeline(800)), most_visits=4)
    assert steps.lengths.tolist() == [1, 1]
    assert steps.gaps_years.tolist() == [[0.0], [0.0]]


def rows_of(gaps_years: list[list[float]], *lengths: int) -> PackedSteps:
    """Rows that read places of their own, one after the other."""
    gaps = torch.tensor(gaps_years)
    return packed(RowSteps(torch.arange(gaps.numel()).view_as(gaps), torch.tensor(lengths), gaps))


def test_values_fade_by_hand():
    # Half of a value is left after a year at the pace ln 2. 0.8, a year later 0.4, then measured: -0.6, two years
    # later -0.15.
    values = torch.tensor([[0.8], [0.0], [-0.6], [0.0]])
    measured = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    found = faded(values, measured, torch.tensor([2.0]).log(), rows_of([[0.0, 1.0, 1.0, 2.0]], 4))
    assert_close(found, torch.tensor([[0.8], [0.4], [-0.6], [-0.15]]))


def test_memory_fades_by_hand():
    core = GruD(width=1, measured=1)
    with torch.no_grad():
        for weights in core.parameters():
            weights.zero_()  # softplus(0) = ln 2, so half of the memory is left after a year
        core.from_visit.weight[2, 0] = 1.0  # the candidate is tanh(visit), and half of it counts
    visits, nothing = torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1)
    found = core(visits, nothing, nothing, rows_of([[0.0, 1.0]], 2))
    # After the first visit tanh(1) / 2; of that a half is left, and half of that again beside a candidate of nought.
    assert found.item() == pytest.approx(np.tanh(1) / 8, rel=1e-6)


def test_rows_of_different_lengths_answer_in_their_order():
    torch.manual_seed(0)
    core = GruD(width=4, measured=2)
    visits, values, gaps = torch.randn(15, 4), torch.randn(15, 2), torch.rand(3, 5)
    measured, lengths = torch.ones(15, 2), [2, 5, 3]
    together = core(visits, values, measured, rows_of(gaps.tolist(), *lengths))
    for row, length in enumerate(lengths):
        own = slice(row * 5, row * 5 + length)
        alone = core(visits[own], values[own], measured[own], rows_of(gaps[row : row + 1, :length].tolist(), length))
        assert_close(together[row : row + 1], alone)


def test_measured_values_are_means_of_a_visit():
    extra = ({"time": days_ago(10), "code": GLUCOSE, "numeric_value": 80.0, "unit": "mg/dL"},)
    batch = whole_batch(timeline(10, extra=extra), [1])
    columns = torch.tensor([-1, -1, -1, -1, 0])
    values, measured = measured_values(batch, columns, 1, torch.ones_like(batch.values))
    # 120 and 80 mg/dL are the levels 0.75 and 0.25, so 0.5 and -0.5; the row itself has no value.
    assert values.flatten().tolist() == pytest.approx([0.0, 0.0])
    assert measured.flatten().tolist() == [1.0, 0.0]


def test_the_commonest_measured_codes():
    assert commonest_measured(timeline(*DAYS), np.array([0, 1]), most=3) == [4]


@pytest.mark.parametrize("place", [0, 1])
def test_what_lies_outside_the_look_back_or_comes_later_changes_nothing(place: int):
    network = networks()[place]
    older = ({"time": days_ago(760), "code": "B//1"}, {"time": days_ago(1200), "code": GLUCOSE, "numeric_value": 90.0})
    later = ({"time": days_ago(-1), "code": "B//1"},)
    settings = RecurrentSettings(width=8, most_visits=64)
    network.most_visits = settings.most_visits
    with torch.inference_mode():
        plain = network(whole_batch(timeline(*DAYS[1:])))
        assert_close(network(whole_batch(timeline(*DAYS, extra=older + later))), plain)
        # A row answers alike alone and beside another of its patient.
        assert_close(network(whole_batch(timeline(*DAYS[1:]), [1])), plain[1:])
        assert_close(network(whole_batch(timeline(*DAYS[1:]), most=1)), plain)
        seen = network(whole_batch(timeline(*DAYS[1:], extra=({"time": days_ago(25), "code": "B//1"},))))
    assert plain.shape == (2, 2, 3, 3)
    assert not torch.allclose(seen, plain)


def test_the_attention_by_hand():
    attention = ReverseAttention(width=1)
    with torch.no_grad():
        for weights in attention.parameters():
            weights.zero_()
        attention.to_number.bias.fill_(1.0)
    found = attention(torch.ones(6, 1), rows_of([[0.0] * 3] * 2, 3, 1))
    # Three visits count alike, a third each, times tanh(1); one alone counts whole. Steps of both rows come first.
    assert_close(found[:, 0], torch.tensor([1 / 3, 1, 1 / 3, 1 / 3]) * np.tanh(1))


def test_a_row_is_weighed_alike_beside_one_with_far_higher_scores():
    attention = ReverseAttention(width=1)
    with torch.no_grad():
        for weights in attention.parameters():
            weights.fill_(0.5)
        attention.to_visit.weight.fill_(1e4)
    low, high = torch.tensor([[-9.0], [-8.0], [-9.0]]), torch.tensor([[9.0], [8.0], [9.0]])
    beside = attention(torch.cat([low, high]), rows_of([[0.0] * 3] * 2, 3, 3))
    assert_close(beside[::2], attention(low, rows_of([[0.0] * 3], 3)))


def test_retain_reads_backwards():
    steps = newest_first(RowSteps(torch.tensor([[4, 5, 6]]), torch.tensor([3]), torch.tensor([[0.0, 1.0, 2.0]])))
    assert steps.places.tolist() == [6, 5, 4]
    assert steps.gaps_years.tolist() == [2.0, 1.0, 0.0]


def test_contributions_sum_to_the_logit_less_the_bias():
    network = networks()[1]
    assert isinstance(network, Retain)
    batch = whole_batch(timeline(*DAYS), most=1)
    found = network.contributions(batch, task=1, intervals=2)
    with torch.inference_mode():
        logits = network(batch)[:, 1, :2]  # (N, K, 3)
    bias = network.to_hazards.bias[1, :2]
    expected = ((logits - bias)[..., EVENT] - (logits - bias)[..., NONE]).mean(dim=1)
    row = (torch.arange(len(batch.bag_sizes)) // batch.ages.shape[1]).repeat_interleave(batch.bag_sizes)
    summed = torch.zeros(2).index_add(0, row, found.events) + found.ages
    assert_close(found.logits, expected)
    assert_close(summed, expected)
    assert (found.events != 0).sum() == 2 * (4 * 2 + 1)  # two events at each of four visits, and the sex, of each row
    with pytest.raises(ValueError, match="stretches of one row"):
        network.contributions(whole_batch(timeline(*DAYS)), task=0, intervals=1)


def test_reasons_are_the_terms_of_retains_own_sum_without_the_state():
    network, sequences = networks()[1], timeline(*DAYS)
    assert isinstance(network, Retain)
    batch = whole_batch(sequences, [1], most=1)
    own = network.contributions(batch, task=1, intervals=2).events
    found = event_contributions(network, sequences, np.array([1]), [(1, 2)])[:, 0]
    assert found == pytest.approx(own.masked_fill(batch.is_state, 0).numpy())
    assert (found != 0).sum() == 2 * 4
    of_two = event_contributions(network, sequences, np.array([1]), [(0, 1), (1, 2)])
    assert of_two[:, 1] == pytest.approx(found)
    assert of_two[:, 0] != pytest.approx(found)


def test_a_single_event_contributes_what_the_formula_says():
    network = networks()[1]
    assert isinstance(network, Retain)
    batch = whole_batch(timeline(30), [1])
    steps = row_steps(batch, 4)
    with torch.inference_mode():
        vector = network.code.weight[2]  # code A, without a value, is one of two events of its visit
        _, _, weights = network._read(batch, torch.ones_like(batch.values))
        head = network.to_hazards.weight[0, 0]
        # The row itself is the newest step, the visit the one after.
        expected = (vector / sqrt(2) * weights[1] * (head[EVENT] - head[NONE])).sum()
        found = network.contributions(batch, task=0, intervals=1).events[(batch.tokens == 2).nonzero().item()]
    assert steps.gaps_years[0, 1].item() == pytest.approx(30 / 365.25)
    assert_close(found, expected)
