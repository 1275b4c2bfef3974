"""`course_utils.modern` against torch's own functions, and against what its docstrings promise."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import modern, positions
from course_utils.exercises.inputs import integers, normal
from course_utils.projection import Embedding

VOCABULARY, D_MODEL, N_HEADS = 11, 24, 3
CONFIG = {"vocabulary": VOCABULARY, "d_model": D_MODEL, "n_heads": N_HEADS, "n_layers": 2}


def randomised(module: nn.Module) -> nn.Module:
    """What starts at 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(weight + 0.3 * torch.randn(weight.shape, generator=generator))
    return module


# --- norm, activation, feed-forward --------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_rms_norm_is_torchs(scale):
    x, gain = scale * normal(2, 3, 5), normal(5)
    torch.testing.assert_close(modern.rms_norm(x), F.rms_norm(x, (5,), eps=1e-6))
    torch.testing.assert_close(modern.rms_norm(x, gain, 0.1), F.rms_norm(x, (5,), gain, 0.1))


def test_the_rms_norm_module_is_torchs():
    ours, theirs = randomised(modern.RMSNorm(5, 1e-3)), nn.RMSNorm(5, 1e-3)
    theirs.load_state_dict(ours.state_dict())
    x = normal(2, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_squared_relu():
    x = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    assert modern.squared_relu(x).tolist() == [0, 0, 0.25, 9]


def test_the_feed_forward_net_has_two_matrices_and_no_more():
    net = modern.SquaredReLU(5, 7)
    shapes = {name: list(p.shape) for name, p in net.named_parameters()}
    assert shapes == {"up.weight": [7, 5], "down.weight": [5, 7]}
    x = normal(2, 3, 5)
    expected = F.relu(x @ net.up.weight.T) ** 2 @ net.down.weight.T
    torch.testing.assert_close(net(x), expected)


# --- attention -----------------------------------------------------------------------------------


def test_attention_has_four_matrices_and_no_biases():
    names = [name for name, _ in modern.NormedRotaryAttention(D_MODEL, N_HEADS).named_parameters()]
    assert sorted(names) == ["w_k.weight", "w_o.weight", "w_q.weight", "w_v.weight"]


def test_queries_and_keys_are_normed_then_turned_and_values_are_left_alone():
    layer = randomised(modern.NormedRotaryAttention(D_MODEL, N_HEADS))
    x, memory = 5 * normal(2, 4, D_MODEL), 5 * normal(2, 6, D_MODEL)
    query, key, value = layer.heads(x, memory, start=3)
    d_head = D_MODEL // N_HEADS
    for found, weight, tokens in ((query, layer.w_q, x), (key, layer.w_k, memory)):
        plain = (tokens @ weight.weight.T).unflatten(-1, (N_HEADS, d_head)).transpose(1, 2)
        normed = F.rms_norm(plain, (d_head,), eps=1e-6)
        torch.testing.assert_close(found, positions.turned(normed, 3))
    expected = (memory @ layer.w_v.weight.T).unflatten(-1, (N_HEADS, d_head)).transpose(1, 2)
    torch.testing.assert_close(value, expected)


def test_no_score_exceeds_the_root_of_the_head_size():
    layer = randomised(modern.NormedRotaryAttention(D_MODEL, N_HEADS))
    x = 100 * normal(2, 9, D_MODEL)
    query, key, _ = layer.heads(x, x)
    d_head = D_MODEL // N_HEADS
    scores = query @ key.transpose(-2, -1) / d_head**0.5
    assert scores.abs().max() <= d_head**0.5 + 1e-4


# --- n-grams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_bucket_depends_on_its_ngram_alone(order):
    """Counted by hand: one bucket for every n-gram that occurs, wherever it occurs."""
    ids = integers(4, 30, below=3)
    buckets = modern.ngram_buckets(ids, order, 1 << 30)
    of_ngram: dict[tuple, int] = {}
    for row, found in zip(ids.tolist(), buckets.tolist(), strict=True):
        padded = [-1] * (order - 1) + row
        for place, bucket in enumerate(found):
            ngram = tuple(padded[place : place + order])
            assert of_ngram.setdefault(ngram, bucket) == bucket
    assert len(set(of_ngram.values())) == len(of_ngram)  # as many buckets, so none is shared


def test_buckets_are_used_evenly():
    ids = torch.cartesian_prod(*[torch.arange(20)] * 3)
    buckets = modern.ngram_buckets(ids, 3, 100)[:, -1]
    counts = buckets.bincount(minlength=100)
    assert counts.min() > 40 and counts.max() < 120  # 80 each on average


def test_the_largest_ids_do_not_overflow():
    ids = torch.full((1, 8), 2**31 - 3)
    buckets = modern.ngram_buckets(ids, 5, 1000)
    assert buckets.min() >= 0 and buckets.max() < 1000


def test_ngram_vectors_are_added_to_token_vectors():
    embed = modern.NGramEmbedding(Embedding(VOCABULARY, 6), 1000, longest=4)
    ids = integers(3, 7, below=VOCABULARY)
    torch.testing.assert_close(embed(ids), embed.tokens(ids))  # the table starts at 0
    randomised(embed)
    expected = embed.tokens.weight[ids]
    for order in (2, 3, 4):
        expected = expected + embed.table.weight[modern.ngram_buckets(ids, order, 1000)]
    torch.testing.assert_close(embed(ids), expected)


def test_lookups_are_dropped_whole_and_in_training_only():
    embed = modern.NGramEmbedding(Embedding(VOCABULARY, 6), 1000, longest=2, drop=0.5)
    randomised(embed)
    ids = integers(40, 50, below=VOCABULARY)
    kept = embed.table.weight[modern.ngram_buckets(ids, 2, 1000)]
    torch.testing.assert_close(embed.eval()(ids), embed.tokens(ids) + kept)
    torch.manual_seed(0)
    found = embed.train()(ids) - embed.tokens(ids)
    dropped = found.abs().amax(-1) < 1e-6
    assert 0.45 < dropped.float().mean() < 0.55
    torch.testing.assert_close(found[~dropped], 2 * kept[~dropped])


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_buckets", [0, 100])
def test_no_token_sees_a_later_one(n_buckets):
    model = randomised(modern.modern_gpt(**CONFIG, n_buckets=n_buckets, longest=4))
    ids = integers(2, 9, below=VOCABULARY)
    changed = ids.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCABULARY
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-3


def test_blocks_add_nothing_at_the_start():
    model = modern.modern_gpt(**CONFIG)
    x = normal(2, 5, D_MODEL)
    for block in model.blocks:
        torch.testing.assert_close(block(x), x)


def test_gradients_reach_every_weight():
    model = randomised(modern.modern_gpt(**CONFIG, n_buckets=20))
    model(integers(4, 9, below=VOCABULARY)).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_a_model_is_rebuilt_from_json_and_weights():
    config = {**CONFIG, "n_buckets": 50, "longest": 4, "drop": 0.1}
    model = randomised(modern.modern_gpt(**config)).eval()
    again = modern.modern_gpt(**json.loads(json.dumps(config))).eval()
    again.load_state_dict(model.state_dict())
    ids = integers(2, 9, below=VOCABULARY)
    assert torch.equal(model(ids), again(ids))
