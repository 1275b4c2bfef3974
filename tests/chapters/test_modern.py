"""`course_utils.modern` against torch's own functions, and against what its docstrings promise."""

import json
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, encoder, exercises, modern, positions, sampling
from course_utils.exercises.inputs import integers, normal
from course_utils.projection import Embedding, Linear
from course_utils.runs import kernels

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


def test_swiglu_is_llamas():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    theirs = randomised(llama.LlamaMLP(sizes("llama", "Llama", intermediate_size=10)))
    ours = modern.SwiGLU(D_MODEL, 10)
    ours.load_state_dict({k.replace("_proj", ""): v for k, v in theirs.state_dict().items()})
    x = normal(2, 3, D_MODEL)
    torch.testing.assert_close(ours(x), theirs(x))


# --- grouped attention ---------------------------------------------------------------------------

N_GROUPS, D_HEAD, N_TOKENS, BASE, WINDOW = 2, 10, 9, 500.0, 3
ROPE = {"rope_type": "default", "rope_theta": BASE}


def sizes(family: str, name: str, **more):
    """A small config of a family, computed with every step written out."""
    configuration = pytest.importorskip(f"transformers.models.{family}.configuration_{family}")
    common = {"hidden_size": D_MODEL, "num_attention_heads": 4, "num_key_value_heads": N_GROUPS}
    given = common | {"head_dim": D_HEAD, "rope_parameters": ROPE, "num_hidden_layers": 2} | more
    config = getattr(configuration, f"{name}Config")(**given)
    config._attn_implementation = "eager"
    return config


def answer(models: ModuleType, name: str, layer: nn.Module, config, x: Tensor) -> Tensor:
    """What an attention of theirs makes of `x`, read from left to right."""
    mask = decoder.causal_mask(x.shape[1])
    window = getattr(layer, "sliding_window", None)
    if window:
        mask = mask.triu(1 - window)
    added = torch.zeros(1, 1, *mask.shape).masked_fill(~mask, -torch.inf)
    turned = getattr(models, f"{name}RotaryEmbedding")(config)(x, torch.arange(x.shape[1])[None])
    return layer(x, position_embeddings=turned, attention_mask=added)[0]


def ours_of(theirs: nn.Module) -> dict[str, Tensor]:
    """The weights of theirs under our names."""
    return {
        name.replace("q_norm", "norm_q").replace("k_norm", "norm_k")
        if "norm" in name or "sinks" in name
        else f"w_{name[0]}.{name.rsplit('.', 1)[1]}": weight
        for name, weight in theirs.state_dict().items()
    }


def grouped(**given) -> modern.GroupedAttention:
    return modern.GroupedAttention(
        D_MODEL, 4, N_GROUPS, D_HEAD, modern.Rotary(D_HEAD, BASE), **given
    )


def test_shared_heads_are_torchs():
    layer = randomised(modern.GroupedAttention(D_MODEL, 6, 3))
    x, mask = normal(2, 5, D_MODEL), decoder.causal_mask(5)
    query, key, value = layer.heads(x, x)
    assert (query.shape[1], key.shape[1], value.shape[1]) == (6, 3, 3)
    heads = F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
    torch.testing.assert_close(layer(x, mask=mask), layer.w_o(heads.transpose(1, 2).flatten(-2)))


def test_as_many_groups_as_heads_are_plain_rotary_attention():
    plain = randomised(positions.RotaryAttention(D_MODEL, N_HEADS))
    ours = modern.GroupedAttention(D_MODEL, N_HEADS, N_HEADS, biases="qkvo")
    ours.load_state_dict(plain.state_dict())
    x, mask = normal(2, 5, D_MODEL), decoder.causal_mask(5)
    torch.testing.assert_close(ours(x, mask=mask), plain(x, mask=mask))


def test_grouped_attention_is_llamas():
    models = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = sizes("llama", "Llama")
    theirs, ours = randomised(models.LlamaAttention(config, 0)), grouped()
    ours.load_state_dict(ours_of(theirs))
    x = normal(2, N_TOKENS, D_MODEL)
    expected = answer(models, "Llama", theirs, config, x)
    torch.testing.assert_close(ours(x, mask=decoder.causal_mask(N_TOKENS)), expected)


def test_with_norms_of_queries_and_keys_it_is_qwens():
    models = pytest.importorskip("transformers.models.qwen3.modeling_qwen3")
    config = sizes("qwen3", "Qwen3", rms_norm_eps=1e-3)
    norms = {name: modern.RMSNorm(D_HEAD, 1e-3) for name in ("norm_q", "norm_k")}
    theirs, ours = randomised(models.Qwen3Attention(config, 0)), grouped(**norms)
    ours.load_state_dict(ours_of(theirs))
    x = 3 * normal(2, N_TOKENS, D_MODEL)
    expected = answer(models, "Qwen3", theirs, config, x)
    torch.testing.assert_close(ours(x, mask=decoder.causal_mask(N_TOKENS)), expected)


def test_with_a_part_of_each_head_turned_and_biases_it_is_gpt_neoxs():
    models = pytest.importorskip("transformers.models.gpt_neox.modeling_gpt_neox")
    rope = ROPE | {"partial_rotary_factor": 1 / 3}
    config = sizes("gpt_neox", "GPTNeoX", rope_parameters=rope, num_key_value_heads=4, head_dim=6)
    theirs = randomised(models.GPTNeoXAttention(config, 0))
    ours = modern.GroupedAttention(D_MODEL, 4, 4, rotary=modern.Rotary(2, BASE), biases="qkvo")
    weights = {"w_o.weight": theirs.dense.weight, "w_o.bias": theirs.dense.bias}
    for kind in ("weight", "bias"):  # theirs holds query, key and value of a head side by side
        by_head = getattr(theirs.query_key_value, kind).unflatten(0, (4, 3, 6))
        weights |= {f"w_{one}.{kind}": by_head[:, i].flatten(0, 1) for i, one in enumerate("qkv")}
    ours.load_state_dict(weights)
    x = normal(2, N_TOKENS, D_MODEL)
    expected = answer(models, "GPTNeoX", theirs, config, x)
    torch.testing.assert_close(ours(x, mask=decoder.causal_mask(N_TOKENS)), expected)


@pytest.mark.parametrize("layer_type", ["full_attention", "sliding_attention"])
def test_with_sinks_and_a_window_it_is_gpt_oss(layer_type):
    models = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    config = sizes("gpt_oss", "GptOss", layer_types=[layer_type] * 2, sliding_window=WINDOW)
    theirs = randomised(models.GptOssAttention(config, 0))
    with torch.no_grad():
        theirs.sinks.copy_(normal(4, seed=9))
    rotary = modern.Rotary(D_HEAD, BASE)
    inner = modern.SinkAttention(D_MODEL, 4, N_GROUPS, D_HEAD, rotary, biases="qkvo")
    inner.load_state_dict(ours_of(theirs))
    ours = modern.Windowed(inner, WINDOW) if layer_type == "sliding_attention" else inner
    x = normal(2, N_TOKENS, D_MODEL)
    expected = answer(models, "GptOss", theirs, config, x)
    torch.testing.assert_close(ours(x, mask=decoder.causal_mask(N_TOKENS)), expected)


def test_a_sink_takes_its_share_and_gives_nothing():
    layer = randomised(modern.SinkAttention(D_MODEL, 4, N_GROUPS, biases="v"))
    x = normal(2, 5, D_MODEL)
    with attention.record() as maps:
        layer(x, mask=decoder.causal_mask(5))
    (weights,) = maps.values()
    assert weights.shape == (2, 4, 5, 6)  # the last column is the sink
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    nn.init.constant_(layer.sinks, 50.0)
    torch.testing.assert_close(layer(x), torch.zeros(2, 5, D_MODEL))


@pytest.mark.parametrize("window", [1, 2, 4, 20])
def test_a_window_hides_what_is_further_back(window):
    layer = randomised(modern.Windowed(modern.GroupedAttention(D_MODEL, 4, 2), window))
    x, mask = normal(1, 8, D_MODEL), decoder.causal_mask(8)
    before = layer(x, mask=mask)
    for changed in range(8):
        other = x.clone()
        other[:, changed] += 1
        differs = (layer(other, mask=mask) - before).abs().amax((0, 2)) > 1e-6
        assert differs.tolist() == [changed <= token < changed + window for token in range(8)]


def test_a_window_narrows_the_mask_that_it_is_given():
    layer = modern.Windowed(modern.GroupedAttention(D_MODEL, 4, 2), 3)
    padding = torch.tensor([[True] * 4 + [False], [True] * 5])[:, None, None]
    found = layer.narrowed(padding & decoder.causal_mask(5), 5, 5)
    expected = [
        [[r - 3 < c <= r and bool(row[c]) for c in range(5)] for r in range(5)]
        for row in padding[:, 0, 0]
    ]
    assert found[:, 0].tolist() == expected
    assert layer.narrowed(None, 2, 5).tolist() == modern.sliding_window_mask(5, 3)[3:].tolist()


def test_two_layers_with_a_window_reach_twice_as_far():
    model = randomised(
        small_gpt(lambda: modern.Windowed(modern.GroupedAttention(D_MODEL, 4, 2), 3))
    )
    ids = integers(1, 9, below=VOCABULARY)
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % VOCABULARY
    differs = (model(ids) - model(changed)).abs().amax((0, 2)) > 1e-5
    assert differs.tolist() == [token < 5 for token in range(9)]


def test_latent_attention_is_deepseeks():
    models = pytest.importorskip("transformers.models.deepseek_v2.modeling_deepseek_v2")
    n_heads, d_latent, d_head, d_turned = 4, 6, 8, 4
    config = sizes(
        "deepseek_v2", "DeepseekV2", num_key_value_heads=n_heads, head_dim=d_turned,
        kv_lora_rank=d_latent, q_lora_rank=None, qk_rope_head_dim=d_turned,
        qk_nope_head_dim=d_head, v_head_dim=d_head,
    )  # fmt: skip
    theirs = randomised(models.DeepseekV2Attention(config, 0))
    ours = modern.LatentAttention(D_MODEL, n_heads, d_latent, d_head, d_turned, BASE)
    halves = [*range(0, d_turned, 2), *range(1, d_turned, 2)]  # theirs turns neighbours
    query = theirs.q_proj.weight.unflatten(0, (n_heads, -1))
    query = torch.cat((query[:, d_head:][:, halves], query[:, :d_head]), dim=1)
    latent, turned = theirs.kv_a_proj_with_mqa.weight.split([d_latent, d_turned])
    both = theirs.kv_b_proj.weight.unflatten(0, (n_heads, -1))
    ours.load_state_dict(
        {
            "w_q.weight": query.flatten(0, 1),
            "w_latent.weight": latent,
            "w_turned.weight": turned[halves],
            "norm.weight": theirs.kv_a_layernorm.weight,
            "w_k.weight": both[:, :d_head].flatten(0, 1),
            "w_v.weight": both[:, d_head:].flatten(0, 1),
            "w_o.weight": theirs.o_proj.weight,
        }
    )
    x = normal(2, N_TOKENS, D_MODEL)
    expected = answer(models, "DeepseekV2", theirs, config, x)
    torch.testing.assert_close(ours(x, mask=decoder.causal_mask(N_TOKENS)), expected)


# --- reading on from a cache ---------------------------------------------------------------------

ATTENTIONS = {
    "grouped": (lambda: modern.GroupedAttention(D_MODEL, 4, 2), 2 * 2 * 6),
    "one group": (lambda: modern.GroupedAttention(D_MODEL, 4, 1, 8), 2 * 8),
    "a part is turned": (
        lambda: modern.GroupedAttention(D_MODEL, 4, 4, rotary=modern.Rotary(2), biases="qkvo"),
        2 * 4 * 6,
    ),
    "query and key norm": (
        lambda: modern.GroupedAttention(
            D_MODEL, 4, 2, 10, norm_q=modern.RMSNorm(10), norm_k=modern.RMSNorm(10)
        ),
        2 * 2 * 10,
    ),
    "window": (lambda: modern.Windowed(modern.GroupedAttention(D_MODEL, 4, 2), 3), 2 * 2 * 6),
    "sinks": (lambda: modern.SinkAttention(D_MODEL, 4, 2, biases="qkvo"), 2 * 2 * 6),
    "sinks and a window": (
        lambda: modern.Windowed(modern.SinkAttention(D_MODEL, 4, 2), 3),
        2 * 2 * 6,
    ),
    "latent": (lambda: modern.LatentAttention(D_MODEL, 4, 6, 8, 4), 6 + 4),
    "a window around an older attention": (
        lambda: modern.Windowed(modern.NormedRotaryAttention(D_MODEL, 4), 3),
        2 * 4 * 6,
    ),
}


def small_gpt(make_attention, make_feed_forward=lambda: modern.SwiGLU(D_MODEL, 20)) -> nn.Module:
    blocks = [
        encoder.TransformerBlock(
            make_attention(), make_feed_forward(), modern.RMSNorm(D_MODEL), modern.RMSNorm(D_MODEL)
        )
        for _ in range(2)
    ]
    tokens, head = Embedding(VOCABULARY, D_MODEL), Linear(D_MODEL, VOCABULARY, bias=False)
    return decoder.GPT(tokens, blocks, modern.RMSNorm(D_MODEL), head).eval()


@pytest.mark.parametrize("name", ["grouped", "window", "latent"])
@pytest.mark.parametrize("answer", exercises.find("encoder.TransformerBlock").alternatives)
def test_any_right_block_reads_on_from_a_cache(name, answer, monkeypatch):
    monkeypatch.setattr(encoder, "TransformerBlock", answer)
    test_reading_on_from_a_cache_is_reading_anew(name)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_reading_on_from_a_cache_is_reading_anew(name):
    model = randomised(small_gpt(ATTENTIONS[name][0]))
    ids, cached = integers(3, 9, below=VOCABULARY), sampling.CachedModel(model, 12)
    steps = [cached(ids[:, :end]) for end in (4, 5, 6, 9)]
    torch.testing.assert_close(torch.cat(steps, 1), model(ids), rtol=1e-5, atol=1e-5)
    other = torch.cat((ids[[2, 0, 0]], ids[:, :1]), 1)  # as beam search does
    torch.testing.assert_close(cached(other), model(other)[:, 9:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_cache_keeps_what_heads_share_once(name):
    make, per_token = ATTENTIONS[name]
    cached = sampling.CachedModel(small_gpt(make), 12)
    cached(integers(1, 5, below=VOCABULARY))
    for layer in cached._layers:
        kept = layer.cache.key[:, :, 0].numel() + layer.cache.value[:, :, 0].numel()
        assert kept == per_token


@pytest.mark.parametrize("name", ATTENTIONS)
def test_fused_kernels_write_the_same_text(name):
    model, ids = randomised(small_gpt(ATTENTIONS[name][0])), integers(2, 4, below=VOCABULARY)
    wanted = sampling.generate(model, ids, 6, sampling.greedy)
    with kernels.fused(), torch.inference_mode():
        cached = sampling.CachedModel(model, 12)
        assert torch.equal(sampling.generate(cached, ids, 6, sampling.greedy), wanted)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients_reach_every_weight_of_an_attention(name):
    model = randomised(small_gpt(ATTENTIONS[name][0]))
    model(integers(4, 9, below=VOCABULARY)).logsumexp(-1).sum().backward()
    for weight, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, weight


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: modern.GroupedAttention(24, 4, 3), "multiple of n_groups, got 4 and 3"),
        (lambda: modern.GroupedAttention(20, 4, 2), "d_turned must be even, got 5"),
        (lambda: modern.LatentAttention(24, 4, 5, 8, 4), "d_latent must be even, got 5"),
        (lambda: modern.LatentAttention(24, 4, 6, 8, 3), "d_turned must be even, got 3"),
        (lambda: modern.MixtureOfExperts(24, 8, 2, 3), "at most n_experts, got 3 and 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# --- experts -------------------------------------------------------------------------------------


def test_a_mixture_of_experts_is_mixtrals():
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = sizes("mixtral", "Mixtral", num_local_experts=5, intermediate_size=10)
    config._experts_implementation = "eager"
    theirs = randomised(mixtral.MixtralSparseMoeBlock(config))
    with torch.no_grad():
        for weight in theirs.parameters():  # some begin with whatever was in memory
            weight.copy_(normal(*weight.shape) / 3)
    ours = modern.MixtureOfExperts(D_MODEL, 10, n_experts=5, k=2)
    weights = {"router.weight": theirs.gate.weight}
    for number in range(5):
        gate, up = theirs.experts.gate_up_proj[number].chunk(2)
        parts = {"gate": gate, "up": up, "down": theirs.experts.down_proj[number]}
        weights |= {f"experts.{number}.{name}.weight": part for name, part in parts.items()}
    ours.load_state_dict(weights)
    x = normal(2, 7, D_MODEL)
    torch.testing.assert_close(ours(x), theirs(x))


def test_an_expert_that_nobody_chose_reads_nothing():
    read = []

    class Counted(modern.SwiGLU):
        def forward(self, x):
            read.append(len(x))
            return super().forward(x)

    layer = randomised(modern.MixtureOfExperts(D_MODEL, 10, 5, 2, Counted))
    layer(normal(2, 7, D_MODEL))
    assert len(read) == 5 and sum(read) == 2 * 14


def test_experts_mix_where_they_compute_in_bfloat16():
    layer, x = randomised(modern.MixtureOfExperts(D_MODEL, 10, 5, 2)), normal(2, 7, D_MODEL)
    with torch.autocast("cpu", torch.bfloat16):
        short = layer(x)
    assert (short - layer(x)).norm() < 0.05 * layer(x).norm()


def test_the_balance_is_read_with_a_hook():
    layer = randomised(modern.MixtureOfExperts(D_MODEL, 10, 5, 2))
    said = []
    layer.router.register_forward_hook(lambda module, args, logits: said.append(logits))
    layer(normal(2, 7, D_MODEL))
    (logits,) = said
    modern.balance_loss(logits, modern.route(logits, 2)[0]).backward()
    assert layer.router.weight.grad.abs().max() > 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_balance_loss_is_mixtrals_for_each_choice(k):
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits = 2 * normal(40, 6)
    theirs = mixtral.load_balancing_loss_func((logits,), 6, k)
    ours = modern.balance_loss(logits, modern.route(logits, k)[0])
    torch.testing.assert_close(k * ours, theirs)


# --- attention whose queries and keys have one length --------------------------------------------


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
