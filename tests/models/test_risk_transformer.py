from dataclasses import replace
from functools import cache
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.testing import assert_close

from models.batches import row_events
from models.explanation import event_contributions
from models.hazards import incidence_log_odds
from models.lookback_summary import LookbackSummary
from models.pretraining import Foreseen, PretrainingHeads, foreseen_codes, next_events, pretraining_loss
from models.risk_transformer import HazardHead, RiskTransformer, TransformerSettings
from models.sequences import Sequences, build_sequences
from models.training import forecast_log_odds
from models.visit_encoder import EncoderShape, VisitEncoder
from models.vocabulary import ChronicGroup, NumberScale, SequenceVocabulary
from tests.models.planted_population import GLUCOSE, PLANTED, SMALL, draw_population
from tests.models.test_sequences import asked_on, batched, code_on, one_patient

TOKENS = ["(nothing known)", PLANTED, GLUCOSE, "ENCOUNTER//AMB//start", "SEX//female", "SEX//male", "STATE//diabetes"]
VOCABULARY = SequenceVocabulary(
    tokens=TOKENS,
    scales={GLUCOSE: NumberScale(unit="mg/dL", values=[60, 100, 140], levels=[0.0, 0.5, 1.0])},
    chronic_groups=[ChronicGroup(name="diabetes", codes=["SNOMED//44054006"], prefixes=[])],
    lookback_days=730,
    median_age_years=50,
)
SHAPE = EncoderShape(tokens=7, headings=[[], [0], [1], [0, 1], [], [], []], with_values=[2, 6], counted=[1, 2, 3])
LAYERS = {1: (1.0,), 2: (0.25, 0.75), 3: (0.2, 0.3, 0.5)}


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    population = draw_population(20)
    keys = population.features.select("subject_id", "prediction_time")
    return build_sequences(population.events.lazy(), keys, VOCABULARY)


@cache
def network_of(layers: int) -> RiskTransformer:
    """Random weights, large enough for answers to differ visibly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        shares = SMALL.model_copy(update={"lookback_shares": LAYERS[layers]})
        encoder = VisitEncoder(SHAPE, shares.width, shares.value_knots, event_dropout=0.0)
        network = RiskTransformer(encoder, 730, tasks=2, intervals=3, settings=shares)
        # Every weight that starts at nought as well: what has no weight yet could hide a look ahead.
        for weights in network.parameters():
            if not weights.any():
                torch.nn.init.normal_(weights, std=0.3)
        torch.nn.init.normal_(network.to_hazards.who.weight, std=0.3)
    return network.eval()


def answers(layers: int, sequences: Sequences, rows: list[int], most: int = 32) -> torch.Tensor:
    """The logits of `rows`, in their order."""
    batch, network = batched(sequences, rows, most), network_of(layers)
    with torch.inference_mode():
        found = network(batch)
    return found[[batch.rows.tolist().index(row) for row in rows]]


def glucose_on(*days: float, value: float = 110) -> list[dict[str, object]]:
    return [row | {"numeric_value": value, "unit": "mg/dL"} for row in code_on(*days, code=GLUCOSE)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_row_has_one_answer_however_it_comes(sequences, layers):
    rows = list(range(sequences.keys.height))
    assert len(set(sequences.past.sizes.tolist())) > 3
    together = answers(layers, sequences, rows)
    assert together.shape == (len(rows), 2, 3, 3)
    # In stretches of its own, padded to the longest; turned round; and a few quite alone, without padding.
    assert_close(answers(layers, sequences, rows, most=1), together, atol=1e-5, rtol=0)
    assert_close(answers(layers, sequences, rows[::-1]).flip(0), together, atol=1e-5, rtol=0)
    for row in rows[::7]:
        assert_close(answers(layers, sequences, [row]), together[[row]], atol=1e-5, rtol=0)


event = st.tuples(st.integers(0, 6000).map(lambda quarter: quarter / 4), st.sampled_from([PLANTED, GLUCOSE]))


@settings(max_examples=20, deadline=None)
@given(
    layers=st.sampled_from([2, 3]),
    record=st.lists(event, min_size=1, max_size=8),
    before=st.lists(event, min_size=1, max_size=8),
    after=st.lists(event, max_size=8),
    others=st.lists(st.integers(1, 1500), max_size=3, unique=True),
)
def test_nothing_outside_the_look_back_changes_an_answer(layers, record, before, after, others):
    """Neither what comes later nor what lies before, however visits pass it on; other rows make those visits seen."""
    inside = [row for day, code in record for row in code_on(day % 729.5, code=code)]
    older = [row for day, code in before for row in code_on(730.5 + day, code=code)]
    later = [row for day, code in after for row in code_on(-1 - day, code=code)]
    plain = build_sequences(one_patient(*inside), asked_on(0), VOCABULARY)
    more = build_sequences(one_patient(*inside, *older, *later), asked_on(0, *others, -1501), VOCABULARY)
    found = answers(layers, more, list(range(len(others) + 2)))
    assert_close(found[:1], answers(layers, plain, [0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_day_of_the_look_back_is_seen(layers):
    nothing = answers(layers, build_sequences(one_patient(), asked_on(0), VOCABULARY), [0])
    for day in (729, 400, 1, 0):
        with_event = answers(
            layers, build_sequences(one_patient(*code_on(day, code=PLANTED)), asked_on(0), VOCABULARY), [0]
        )
        assert not torch.allclose(with_event, nothing, atol=1e-4), day


def test_the_windows_of_the_layers_sum_to_the_look_back():
    # 730 days: the edges 182.5 and 365 are rounded to 182 and 365 days.
    assert network_of(2).windows_days == [182, 548]
    assert sum(network_of(3).windows_days) == 730
    with pytest.raises(ValidationError, match="sum to 1"):
        TransformerSettings(lookback_shares=(0.5, 0.4))


def test_only_differences_of_time_matter(sequences):
    batch = batched(sequences, [0, 1, 2])
    moved = replace(batch, moments_us=batch.moments_us - 3_000 * 86_400_000_000, days=batch.days - 3_000)
    network = network_of(2)
    with torch.inference_mode():
        assert_close(network(moved), network(batch), atol=1e-5, rtol=0)


def test_a_row_decades_before_the_last_of_its_stretch_has_the_same_answer():
    years = 30 * 365
    record = one_patient(*code_on(years + 3.3, years + 200.7, years + 500.1, code=PLANTED))
    sequences = build_sequences(record, asked_on(years, 0), VOCABULARY)
    assert len(batched(sequences).is_seen) == 1
    found = answers(2, sequences, [0, 1])
    assert_close(found[:1], answers(2, sequences, [0]), atol=1e-6, rtol=0)


def test_rows_differ_in_their_answers(sequences):
    answered = forecast_log_odds(network_of(2), sequences, np.arange(sequences.keys.height), [(1, 2)])
    assert len(np.unique(answered.round(6))) > 10


def test_forecasts_keep_the_order_of_the_rows(sequences):
    rows = np.arange(sequences.keys.height)
    forward = forecast_log_odds(network_of(2), sequences, rows, [(1, 2)])
    backward = forecast_log_odds(network_of(2), sequences, rows[::-1], [(1, 2)])
    assert forward[:, 0] == pytest.approx(backward[::-1, 0], abs=1e-5)


def test_the_look_back_summary_by_hand():
    record = one_patient(*glucose_on(90, value=140), *glucose_on(0.25, value=80), *code_on(180, 90, code=PLANTED))
    batch = batched(build_sequences(record, asked_on(0), VOCABULARY))
    summary = LookbackSummary(7, codes=[1, 2], with_values=[2])
    found = summary(batch, torch.ones_like(batch.values))[0, 0]
    # Planted 180 and 90 days ago, glucose 90 days ago and today. Of glucose, 140 mg/dL is the value 1 and 80 the
    # quantile 0.25, so -0.5. A day fades in 10, in 90, or as good as never.
    expected = []
    for older, old in ((exp(-18), exp(-9)), (exp(-2), exp(-1)), (1, 1)):
        expected += [log(1 + older + old), log(1 + old + 1), (old * 1 - 0.5) / (old + 1)]
        expected += [log((old * exp(6) + exp(-3)) / (old + 1)) / 6, -log((old * exp(-6) + exp(3)) / (old + 1)) / 6]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    # Half of every event: half the counts, and means half as far from the middle, for values no fewer.
    half = summary(batch, torch.full_like(batch.values, 0.5))[0, 0]
    highest, lowest = log((exp(3) + exp(-1.5)) / 2) / 6, -log((exp(-3) + exp(1.5)) / 2) / 6
    assert half[10:].tolist() == pytest.approx([log(2), log(2), 0.125, highest, lowest], abs=1e-5)


@pytest.mark.parametrize(("glucose", "place"), [(140, 1), (220, 3), (-20, -3)])  # the last two lie at the very ends
def test_a_value_that_was_never_measured_is_the_middle_and_an_old_one_is_itself(glucose, place):
    record = one_patient(*code_on(20, code=PLANTED), *glucose_on(700, value=glucose))
    batch = batched(build_sequences(record, asked_on(0), VOCABULARY))
    found = LookbackSummary(7, codes=[], with_values=[2])(batch, torch.ones_like(batch.values))
    assert found[0, 0].tolist() == pytest.approx([place] * 9, abs=1e-4)  # one value is mean, highest and lowest
    never = batched(build_sequences(one_patient(*code_on(20, code=PLANTED)), asked_on(0), VOCABULARY))
    assert not LookbackSummary(7, codes=[], with_values=[2])(never, torch.ones_like(never.values)).any()


def test_a_summary_is_of_the_row_alone():
    record = one_patient(*code_on(800, 100, 20, code=PLANTED))
    batch = batched(build_sequences(record, asked_on(50, 0), VOCABULARY))
    found = LookbackSummary(7, codes=[1], with_values=[])(batch, torch.ones_like(batch.values))
    # 50 days before, the day 750 days back is over the edge too: one event; today two.
    assert found[0, :, -1].tolist() == pytest.approx([log(1 + 1), log(1 + 2)], abs=1e-6)


@pytest.mark.parametrize(
    ("value", "shares"),
    [
        (60, [1, 0, 0, 0]),  # the quantile 0 is the first of four knots
        (100, [0, 0.5, 0.5, 0]),  # the middle lies between the second and third
        (110, [0, 0.125, 0.875, 0]),  # the quantile 0.625, of three steps 1.875
        (900, [0, 0, 0, 1]),
    ],
)
def test_a_value_lies_on_the_line_between_two_knots(value, shares):
    encoder = VisitEncoder(SHAPE, width=4, knots=4, event_dropout=0.0)
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.zero_()
        encoder.value.weight[:4] = torch.eye(4)  # the knots of glucose, the first code with values
    batch = batched(build_sequences(one_patient(*glucose_on(5, value=value)), asked_on(0), VOCABULARY))
    with torch.inference_mode():
        places, _ = encoder(batch)
    assert places[0, 0].tolist() == pytest.approx(shares, abs=1e-6)
    assert not places[0, 1].any()  # the row has sex alone, which has no value


def test_a_code_is_the_sum_of_its_own_vector_and_its_headings_and_a_visit_fades_by_the_root():
    encoder = VisitEncoder(SHAPE, width=2, knots=4, event_dropout=0.0)
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.zero_()
        encoder.code.weight[1], encoder.code.weight[3] = torch.tensor([1.0, 0]), torch.tensor([2.0, 0])
        encoder.heading.weight[:] = torch.tensor([[0, 10.0], [0, 100.0]])
    record = one_patient(*code_on(5, code=PLANTED), *code_on(5, code="ENCOUNTER//AMB//start"))
    with torch.inference_mode():
        places, _ = encoder(batched(build_sequences(record, asked_on(0), VOCABULARY)))
    # Codes 1 + 2; headings 10 of the first and 10 + 100 of the second; two events, so over the root of 2.
    assert places[0, 0].tolist() == pytest.approx([3 / 2**0.5, 120 / 2**0.5])


def test_age_and_gap_of_a_row_in_plain_numbers():
    record = one_patient(*code_on(9, code=PLANTED))  # she is 40
    encoder = VisitEncoder(SHAPE, width=2, knots=4, event_dropout=0.0)
    with torch.inference_mode():
        _, wide = encoder(batched(build_sequences(record, asked_on(0), VOCABULARY)))
    # (40 - 50) / 20; log(1 + 9 days) / 7; there is a visit before; above the knot at 20 by one step of 20 years.
    assert wide[0, 0, -9:].tolist() == pytest.approx([-0.5, log(10) / 7, 1, 1, 0, 0, 0, 0, 0], abs=1e-4)


def test_the_hazard_head_by_hand():
    head = HazardHead(width=1, wide=1, tasks=1, intervals=3)
    with torch.no_grad():
        head.bias[:] = torch.tensor([0.0, 10.0, 20.0])
        # Numbers for the task and for death: first who is likelier, then nearer or farther.
        head.who.weight[:] = torch.tensor([[1.0], [2.0], [0.5], [0.25]])
        head.straight.weight[:] = torch.tensor([[3.0], [4.0]])
        found = head(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    # Event: 10 + 2 x 1 + 1 x 3 = 15, and 2 x 0.5 = 1 a step; death: 20 + 2 x 2 + 1 x 4 = 28, and 2 x 0.25 = 0.5.
    assert found.tolist() == [[[[0, 14, 27.5], [0, 15, 28], [0, 16, 28.5]]]]


def test_what_followed_each_visit_by_hand():
    record = one_patient(
        *code_on(400, 0.5, code=PLANTED),
        *glucose_on(400, value=60),
        *glucose_on(300, value=140),
        *code_on(300, code=GLUCOSE),
    )
    sequences = build_sequences(record, asked_on(-1), VOCABULARY)
    foreseen = foreseen_codes(sequences, np.arange(len(sequences.visit_ends) - 1), tokens=7)
    assert foreseen.place.tolist() == [-1, 0, 1, -1, -1, -1, -1]
    assert foreseen.has_values.tolist() == [False, True]
    found = next_events(batched(sequences), foreseen)
    # Visits 400 and 300 days before noon and on the day itself; codes: planted, glucose.
    inf, nan = torch.inf, torch.nan
    assert found.is_asked.tolist() == [[True, True, False]]
    assert found.is_next.int().tolist() == [[[0, 1], [1, 0], [0, 0]]]
    assert found.gap_class[0, :2].tolist() == [3, 4]  # 100 days: beyond 7, 30 and 90; 300: beyond 180 too
    assert found.days.tolist() == [[[400, 100], [300, inf], [inf, inf]]]
    assert found.followed_days.tolist() == [[400, 300, 0]]
    # 140 mg/dL is 1; the glucose of that day without a number does not hide it.
    assert_close(found.values, torch.tensor([[[nan, 1], [nan, nan], [nan, nan]]]), equal_nan=True)


def test_only_the_codes_of_the_visits_asked_for_are_foreseen():
    """Those of train patients: what only others have is no code of the pretraining."""
    sequences = build_sequences(
        one_patient(*code_on(400, code=PLANTED), *glucose_on(300, value=140)), asked_on(-1), VOCABULARY
    )
    foreseen = foreseen_codes(sequences, np.array([0]), tokens=7)
    assert foreseen.place.tolist() == [-1, 0, -1, -1, -1, -1, -1]
    assert foreseen.has_values.tolist() == [False]


def test_the_pretraining_loss_by_hand():
    sequences = build_sequences(
        one_patient(*glucose_on(100, value=60), *glucose_on(0.25, value=140)), asked_on(-1), VOCABULARY
    )
    foreseen = foreseen_codes(sequences, np.arange(len(sequences.visit_ends) - 1), tokens=7)
    heads = PretrainingHeads(width=2, codes=1)
    with torch.no_grad():
        for weights in heads.parameters():
            weights.zero_()
    batch = batched(sequences)
    loss = pretraining_loss(heads, torch.zeros(1, 2, 2), next_events(batch, foreseen), foreseen)
    # Every answer is even. One of six gaps: log 6. The code comes next: log 2. It comes after 100 days, so in the
    # second of the intervals to 30 and to 180 days, and later ones say nothing: 2 log 2. The value 1 is missed by 1.
    assert loss.tolist() == pytest.approx([log(6) + (3 * log(2) + 1) / 10], rel=1e-5)


def test_pretraining_bears_patients_without_visits():
    sequences = build_sequences(one_patient(), asked_on(0), VOCABULARY)
    foreseen = Foreseen(torch.tensor([-1, 0, -1, -1, -1, -1, -1]), torch.tensor([False]))
    found = next_events(batched(sequences), foreseen)
    assert found.is_asked.shape == (1, 0)
    assert pretraining_loss(PretrainingHeads(2, 1), torch.zeros(1, 0, 2), found, foreseen).sum() == 0


@pytest.mark.parametrize("layers", [1, 2])
def test_contributions_of_dated_events_sum_to_the_answer_less_that_of_the_same_person_without_them(sequences, layers):
    network = network_of(layers)
    rows = np.array([3, 0, 7, 8, 6])  # 6 to 8 are rows of one patient
    assert sequences.keys["subject_id"][6:9].n_unique() == 1
    contributions = event_contributions(network, sequences, rows, [(0, 3)])[:, 0]
    parts = np.split(contributions, np.cumsum([len(row_events(sequences, row)) for row in rows])[:-1])
    for row, own in zip(rows.tolist(), parts, strict=True):
        batch = batched(sequences, [row])
        assert batch.is_state.sum() == 1  # the sex
        with torch.inference_mode():
            whole, bare = (
                incidence_log_odds(network(batch, strength)[:, 0], 3).item()
                for strength in (torch.ones_like(batch.values), batch.is_state.to(batch.values))
            )
        assert own.sum() == pytest.approx(whole - bare, abs=2e-3)
        tokens = sequences.events["token"].to_numpy()[row_events(sequences, row)]
        assert tokens.tolist() == batch.tokens.tolist()
        assert own[tokens < 4].any()
        assert not own[tokens >= 4].any()  # a sex has no absence to compare with
        assert event_contributions(network, sequences, np.array([row]), [(0, 3)])[:, 0] == pytest.approx(own, abs=1e-5)


def test_no_rows_have_no_contributions(sequences):
    none = np.array([], dtype=np.int64)
    assert event_contributions(network_of(1), sequences, none, [(0, 3), (0, 1)]).shape == (0, 2)
