"""`course_utils.interpretability` against brute force, closed forms and NumPy."""

import copy

import numpy as np
import pytest
import torch

from course_utils import decoder, interpretability, modern
from course_utils.exercises.inputs import normal

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8, 2, 8, 1]])
OTHER = torch.tensor([[5, 1, 4, 6, 5, 9, 2], [0, 7, 3, 8, 2, 8, 1]])


def model_of(make):
    """What starts at 0 or 1 would hide mistakes."""
    model = make(vocabulary=11, d_model=24, n_heads=3, n_layers=2, **EXTRA.get(make, {}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


EXTRA = {decoder.gpt: {"context": 16}}
both = pytest.mark.parametrize("make", [decoder.gpt, modern.modern_gpt])


def causal_weights(tokens=9):
    scores = normal(2, 3, tokens, tokens).masked_fill(~decoder.causal_mask(tokens), -torch.inf)
    return scores.softmax(-1)


def test_head_scores_are_means_over_rows():
    weights = causal_weights()
    found = interpretability.head_scores(weights)
    for head in range(3):
        rows = [(text[head], t) for text in weights for t in range(1, 9)]
        wanted = {
            "previous": np.mean([w[t, t - 1].item() for w, t in rows]),
            "first": np.mean([w[t, 0].item() for w, t in rows]),
            "self": np.mean([w[t, t].item() for w, t in rows]),
            "entropy": np.mean(
                [torch.distributions.Categorical(w[t]).entropy().item() for w, t in rows]
            ),
        }
        for name, value in wanted.items():
            assert found[name][head].item() == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("period", [2, 3, 5])
def test_the_induction_score_is_a_mean_over_the_repeated_rows(period):
    weights = causal_weights()
    wanted = [
        np.mean([w[h, t, t - period + 1].item() for w in weights for t in range(period, 9)])
        for h in range(3)
    ]
    assert interpretability.induction_score(weights, period).tolist() == pytest.approx(wanted)


@both
def test_a_head_replaced_by_its_own_output_changes_nothing(make):
    model = model_of(make)
    before = model(IDS)
    own = interpretability.head_outputs(model, IDS)[1][..., 2, :]
    with interpretability.ablate_head(model, 1, 2, own):
        torch.testing.assert_close(model(IDS), before)


@both
def test_zeros_for_a_head_are_zero_columns_of_w_o_and_are_taken_away_after_an_error(make):
    model = model_of(make)
    cut = copy.deepcopy(model)
    before = model(IDS)
    with torch.no_grad():
        cut.blocks[0].attention.w_o.weight[:, 8:16] = 0
    with interpretability.ablate_head(model, 0, 1):
        torch.testing.assert_close(model(IDS), cut(IDS))
        assert not torch.allclose(model(IDS), before)
    with pytest.raises(IndexError), interpretability.ablate_head(model, 0, 1):
        model(IDS + 100)
    torch.testing.assert_close(model(IDS), before)


@both
def test_patching_every_place_gives_the_other_texts_logits(make):
    model = model_of(make)
    block = model.blocks[0]
    (source,) = interpretability.record_outputs(model, [block], OTHER)
    kept, before = source.clone(), model(IDS)
    with interpretability.patch(block, source, range(7)):
        torch.testing.assert_close(model(IDS), model(OTHER))
    with interpretability.patch(block, source, [4]):
        logits = model(IDS)
    torch.testing.assert_close(logits[:, :4], before[:, :4])
    assert not torch.allclose(logits[:, 4:], before[:, 4:])
    assert torch.equal(source, kept)


@both
def test_several_heads_at_once_are_one_after_the_other(make):
    model = model_of(make)
    before, vector = model(IDS), torch.arange(8.0)
    with (
        interpretability.ablate_head(model, 0, 2, vector),
        interpretability.ablate_head(model, 1, 0),
    ):
        wanted = model(IDS)
    with interpretability.ablate_heads(model, {(0, 2): vector, (1, 0): None}):
        torch.testing.assert_close(model(IDS), wanted)
    assert not torch.allclose(wanted, before)
    torch.testing.assert_close(model(IDS), before)


@both
def test_a_pair_moves_from_nothing_to_all_by_the_mean_gap(make):
    model = model_of(make)
    yes, no = torch.tensor([3, 5]), torch.tensor([1, 2])
    pair = interpretability.Pair(model, OTHER, IDS, yes, no)
    block = model.blocks[0]
    (source,) = interpretability.record_outputs(model, [block], OTHER)
    assert pair.moved() == pytest.approx(0)
    assert pair.moved((block, source, range(7))) == pytest.approx(1, abs=1e-4)
    with interpretability.patch(block, source, [4]):
        part = model(IDS)[:, -1]
    gaps = [
        np.mean([(row[y] - row[n]).item() for row, y, n in zip(rows, yes, no, strict=True)])
        for rows in (model(IDS)[:, -1], part, model(OTHER)[:, -1])
    ]
    wanted = (gaps[1] - gaps[0]) / (gaps[2] - gaps[0])
    assert pair.moved((block, source, [4])) == pytest.approx(wanted, abs=1e-4)


@both
def test_the_lens_of_the_last_layer_is_the_answer(make):
    model = model_of(make)
    stream = interpretability.residual_stream(model, IDS)
    lens = interpretability.logit_lens(stream[:, 0], model.norm, model.head)
    torch.testing.assert_close(lens[-1], model(IDS)[0])


def test_direct_attributions_sum_to_the_logits():
    model = model_of(modern.modern_gpt)
    parts = interpretability.direct_attribution(model, IDS)
    assert len(parts) == 1 + 2 * (3 + 1)
    torch.testing.assert_close(sum(parts.values()), model(IDS), atol=1e-4, rtol=1e-4)


def test_the_probe_is_least_squares_with_rows_for_the_penalty():
    x, y = normal(60, 5).double(), torch.arange(60) % 3
    x[:, 0] += y
    ones = np.hstack([x.numpy(), np.ones((60, 1))])
    rows = np.vstack([ones[:40], np.sqrt(0.7) * np.eye(6)])
    weights = np.linalg.lstsq(rows, np.vstack([np.eye(3)[y[:40]], np.zeros((6, 3))]), rcond=None)[0]
    wanted = ((ones[40:] @ weights).argmax(-1) == y[40:].numpy()).mean()
    found = interpretability.fit_probe(x[:40], y[:40], x[40:], y[40:], 0.7)
    assert found == pytest.approx(wanted)


def test_control_labels_depend_on_the_token_alone():
    labels = interpretability.control_labels(IDS, 4, seed=1)
    by_token = dict(zip(IDS.flatten().tolist(), labels.flatten().tolist(), strict=True))
    assert labels.tolist() == [[by_token[i] for i in row] for row in IDS.tolist()]
    assert set(by_token.values()) <= set(range(4)) and len(set(by_token.values())) > 1
