"""`course_utils.scaling` against models that are built, products that are counted, and tensors.

Published sizes and optima are those of the papers that the tests name.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils import decoder, sampling, scaling, training
from course_utils.engine import parts, worker
from course_utils.exercises.inputs import integers, normal
from course_utils.exercises.scaling.flops_per_token import flops_by_products
from course_utils.runs import kernels
from course_utils.scaling import Sizes

few = settings(max_examples=25, deadline=None)

SMALL = [
    Sizes(65, 128, 4, 4, 64),
    Sizes(257, 96, 3, 2, 200),
    Sizes(1000, 64, 4, 6, 48),
]
GPT2 = {  # Radford et al. 2019; the counts are those of the weights on the hub
    "gpt2": (Sizes(50257, 768, 12, 12, 1024, tied=True), 124_439_808),
    "gpt2-medium": (Sizes(50257, 1024, 16, 24, 1024, tied=True), 354_823_168),
    "gpt2-large": (Sizes(50257, 1280, 20, 36, 1024, tied=True), 774_030_080),
    "gpt2-xl": (Sizes(50257, 1600, 25, 48, 1024, tied=True), 1_557_611_200),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are quicker so, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def built(sizes: Sizes, device: str = "cpu") -> decoder.GPT:
    with torch.device(device):
        model = decoder.gpt(
            sizes.vocabulary, sizes.d_model, sizes.n_heads, sizes.n_layers, sizes.context
        )
    if sizes.tied:
        model.head.weight = model.embed.tokens.weight
    return model


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- count_parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sizes", SMALL)
def test_parameters_are_those_of_the_model(sizes, tied):
    sizes = Sizes(*list(vars(sizes).values())[:-1], tied)
    model, counts = built(sizes, "meta"), scaling.count_parameters(sizes)
    assert counts["total"] == n_parameters(model)
    assert counts["embedding"] == n_parameters(model.embed)
    assert counts["head"] == (0 if tied else n_parameters(model.head))
    for part, name in {"attention": "attention", "feed_forward": "feed_forward"}.items():
        each = [n_parameters(block.get_submodule(name)) for block in model.blocks]
        assert counts[part] == sum(each)
    norms = [model.norm, *(n for b in model.blocks for n in (b.norm1, b.norm2))]
    assert counts["norms"] == sum(n_parameters(norm) for norm in norms)


@pytest.mark.parametrize("name", GPT2)
def test_gpt2_is_counted_to_the_digit(name):
    sizes, published = GPT2[name]
    assert scaling.count_parameters(sizes)["total"] == published


@pytest.mark.parametrize("name", GPT2)
def test_gpt2_has_as_many_in_transformers(name):
    transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')
    sizes, _ = GPT2[name]
    config = transformers.GPT2Config(
        n_embd=sizes.d_model, n_layer=sizes.n_layers, n_head=sizes.n_heads
    )
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(config)
    assert scaling.count_parameters(sizes)["total"] == n_parameters(model)


def matrices_of_blocks(d_model: int, n_layers: int) -> int:
    """What the docstring of `count_parameters` gives as a short form."""
    return 12 * n_layers * d_model**2


@pytest.mark.parametrize(
    ("d_model", "n_layers", "published", "tolerance"),
    [
        (12288, 96, 174.6e9, 0.01),  # GPT-3 (Brown et al. 2020, tables 2.1 and D.1)
        (4096, 32, 6.74e9, 0.05),  # Llama 2 7B (Touvron et al. 2023), with tables of 0.26e9
        (8192, 80, 69.0e9, 0.08),  # Llama 2 70B, whose keys and values have fewer heads
    ],
)
def test_twelve_l_d_squared_is_close_to_published_sizes(d_model, n_layers, published, tolerance):
    assert matrices_of_blocks(d_model, n_layers) == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize("sizes", SMALL)
def test_twelve_l_d_squared_is_what_is_left_of_the_count(sizes):
    model = built(sizes, "meta")
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    assert sum(p.numel() for p in matrices) == matrices_of_blocks(sizes.d_model, sizes.n_layers)


@pytest.mark.parametrize(
    ("d_hidden", "n_key_heads", "wanted"), [(11008, 32, 12.06), (14336, 8, 13.0)]
)
def test_a_block_of_llama_has_about_twelve_d_squared(d_hidden, n_key_heads, wanted):
    """Llama 2 7B and Llama 3 8B: three matrices in feed-forward, but narrower ones."""
    transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')
    config = transformers.LlamaConfig(
        hidden_size=4096,
        intermediate_size=d_hidden,
        num_attention_heads=32,
        num_key_value_heads=n_key_heads,
        num_hidden_layers=1,
    )
    with torch.device("meta"):
        block = transformers.LlamaForCausalLM(config).model.layers[0]
    assert n_parameters(block) / 4096**2 == pytest.approx(wanted, abs=0.01)


# --- flops_per_token -----------------------------------------------------------------------------


def flops_counted(sizes: Sizes, n_rows: int, n_tokens: int, training: bool) -> int:
    """What torch counts while the model itself runs, without a single number computed."""
    model = built(sizes, "meta")
    ids = torch.zeros(n_rows, n_tokens, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits = model(ids)
        if training:
            logits.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("sizes", "n_tokens"), [(SMALL[0], 64), (SMALL[1], 33), (SMALL[2], 1), (GPT2["gpt2"][0], 600)]
)
def test_flops_are_those_that_torch_counts(sizes, n_tokens, training):
    counted = flops_counted(sizes, 2, n_tokens, training)
    assert 2 * n_tokens * scaling.flops_per_token(sizes, n_tokens, training) == counted
    assert 2 * n_tokens * flops_by_products(sizes, n_tokens, training) == counted


def test_looking_costs_as_much_as_the_blocks_where_the_text_is_six_times_as_long_as_it_is_wide():
    sizes = Sizes(vocabulary=0, d_model=96, n_heads=3, n_layers=5, context=576)
    blocks = scaling.flops_per_token(sizes, 0)
    assert scaling.flops_per_token(sizes, 6 * 96) == 2 * blocks
    assert scaling.flops_per_token(sizes, 576, training=True) == 6 * blocks


@pytest.mark.parametrize("name", GPT2)
def test_six_flops_for_each_parameter_is_a_fair_guess(name):
    sizes, n = GPT2[name]
    assert scaling.flops_per_token(sizes, 1024, training=True) == pytest.approx(6 * n, rel=0.2)


# --- memory_report -------------------------------------------------------------------------------


def bytes_held(run: Callable[[], Tensor], parameters: list[nn.Parameter]) -> tuple[int, Tensor]:
    """Bytes of all tensors that the way back will need, but for the weights."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    held: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no storage is freed, and its address used again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    return sum(held.values()), loss


def nbytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    ("sizes", "n_rows", "n_tokens"), [(SMALL[0], 12, 64), (SMALL[1], 5, 200), (SMALL[2], 20, 48)]
)
def test_training_memory_is_what_is_held(sizes, n_rows, n_tokens):
    model = built(sizes)
    weights = list(model.parameters())
    optimiser = torch.optim.AdamW(weights)
    ids, targets = (integers(n_rows, n_tokens, below=sizes.vocabulary, seed=i) for i in (0, 1))
    with kernels.fused():
        held, loss = bytes_held(lambda: training.cross_entropy(model(ids), targets), weights)
    loss.backward()
    optimiser.step()
    report = scaling.memory_report(sizes, n_rows, n_tokens)
    assert report["weights"] == nbytes(weights)
    assert report["gradients"] == nbytes(weight.grad for weight in weights)
    means = [t for state in optimiser.state.values() for t in state.values() if t.ndim]
    assert report["optimiser"] == nbytes(means)
    assert report["activations"] == pytest.approx(held, rel=0.05)
    everything = held + sum(report[what] for what in ("weights", "gradients", "optimiser"))
    assert report["total"] == pytest.approx(everything, rel=0.05)


def test_half_precision_holds_half():
    sizes = SMALL[2]
    model = built(sizes).bfloat16()
    ids = integers(20, 48, below=sizes.vocabulary)
    with kernels.fused():
        held, _ = bytes_held(
            lambda: training.cross_entropy(model(ids), ids), list(model.parameters())
        )
    report = scaling.memory_report(sizes, 20, 48, bytes_per_number=2)
    assert report["activations"] == pytest.approx(held, rel=0.1)


@pytest.mark.parametrize("sizes", SMALL)
@pytest.mark.parametrize(("n_rows", "n_tokens"), [(3, 20), (1, 48)])
def test_generation_memory_is_what_the_caches_hold(sizes, n_rows, n_tokens):
    model = sampling.CachedModel(built(sizes).eval(), n_tokens)
    model(integers(n_rows, n_tokens, below=sizes.vocabulary))
    caches = [module.cache for module in model.model.modules() if hasattr(module, "cache")]
    report = scaling.memory_report(sizes, n_rows, n_tokens, "generation")
    assert len(caches) == sizes.n_layers
    assert report["cache"] == nbytes(t for cache in caches for t in (cache.key, cache.value))
    assert report["weights"] == nbytes(model.model.parameters())


def test_a_batch_of_gpt2_needs_far_more_than_its_weights():
    """Weights, gradients and two means of 4 bytes are 16 bytes a weight (Rajbhandari 2020, §3)."""
    sizes, n = GPT2["gpt2"]
    training = scaling.memory_report(sizes, 8, 1024)
    assert training["weights"] + training["gradients"] + training["optimiser"] == 16 * n
    writing = scaling.memory_report(sizes, 1, 1024, "generation", bytes_per_number=2)
    assert writing["total"] / writing["weights"] == pytest.approx(1.15, abs=0.005)


@pytest.mark.parametrize("mode", ["inference", "Training", "", "train", None])
def test_another_mode_is_an_error(mode):
    with pytest.raises(ValueError, match='must be "training" or "generation"'):
        scaling.memory_report(SMALL[0], 1, 1, mode)


# --- fit_power_law -------------------------------------------------------------------------------


@few
@given(
    st.floats(0.1, 500.0), st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.7, 3.0]), st.integers(2, 9)
)
def test_a_law_is_found_again(a, alpha, floor, n_sizes):
    n = 10 ** torch.linspace(2, 5, n_sizes, dtype=torch.float64)
    found = scaling.fit_power_law(n, floor + a * n**-alpha, floor)
    assert found == (pytest.approx(a, rel=1e-4), pytest.approx(alpha, abs=1e-5))


@few
@given(st.integers(2, 12), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_fit_is_numpys(n_sizes, seed, floor):
    n = 10 ** (3 + normal(n_sizes, seed=seed))
    loss = floor + 20 * n**-0.3 * (0.2 * normal(n_sizes, seed=seed + 1)).exp()
    slope, height = np.polyfit(n.double().log().numpy(), (loss.double() - floor).log().numpy(), 1)
    wanted = math.exp(height), -slope
    assert scaling.fit_power_law(n, loss, floor) == pytest.approx(wanted, rel=1e-5)


def test_kaplans_law():
    """Twice the size takes 5.1 % from the loss; to halve it takes 9139 times the size."""
    n = torch.tensor([1e5, 1e7, 1e9], dtype=torch.float64)
    a, alpha = scaling.fit_power_law(n, (8.8e13 / n) ** 0.076)  # Kaplan et al. 2020, eq. 1.1
    assert a ** (1 / alpha) == pytest.approx(8.8e13, rel=1e-6)
    assert 1 - 2**-alpha == pytest.approx(0.051, abs=5e-4)
    assert 2 ** (1 / alpha) == pytest.approx(9139, abs=1)


def test_a_floor_that_is_left_out_makes_the_law_look_flatter():
    n = 10 ** torch.linspace(3, 6, 7)
    loss = 1.5 + 40 * n**-0.4
    assert scaling.fit_power_law(n, loss, 1.5)[1] == pytest.approx(0.4, abs=1e-3)
    assert scaling.fit_power_law(n, loss)[1] < 0.2


# --- foretell ------------------------------------------------------------------------------------


@few
@given(
    st.floats(0.1, 500.0), st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.7, 3.0]), st.floats(2, 8)
)
def test_a_law_goes_on(a, alpha, floor, log_size):
    n = 10 ** torch.linspace(2, 5, 5, dtype=torch.float64)
    foretold = scaling.foretell(n, floor + a * n**-alpha, floor, 10**log_size)
    assert foretold == pytest.approx(floor + a * 10 ** (-alpha * log_size), rel=1e-4)


def test_without_its_floor_a_law_is_foretold_below_it():
    n = 10 ** torch.linspace(3, 5, 5)
    loss = 1.5 + 40 * n**-0.4
    assert scaling.foretell(n, loss, 1.5, 1e9) == pytest.approx(1.51, abs=0.001)
    assert scaling.foretell(n, loss, 0.0, 1e9) < 1.5


# --- compute_optimal -----------------------------------------------------------------------------

HOFFMANN = (406.4, 410.7, 0.34, 0.28)  # Hoffmann et al. 2022, eq. 10
BESIROGLU = (482.01, 2085.43, 0.3478, 0.3658)  # Besiroglu et al. 2024, the same data fitted again


@few
@given(
    st.floats(6, 24),
    st.floats(1, 1000),
    st.floats(1, 1000),
    st.floats(0.1, 1.0),
    st.floats(0.1, 1.0),
)
def test_optimum_is_the_lowest_of_a_fine_grid(log_flops, a, b, alpha, beta):
    flops = 10**log_flops
    n, d = scaling.compute_optimal(flops, a, b, alpha, beta)
    assert 6 * n * d == pytest.approx(flops)
    around = n * torch.linspace(-1, 1, 2001, dtype=torch.float64).exp()
    loss = a / around**alpha + b / (flops / 6 / around) ** beta
    assert around[loss.argmin()].item() == pytest.approx(n, rel=0.0011)


@pytest.mark.parametrize(
    ("fit", "tokens_per_parameter"), [(HOFFMANN, (32, 50, 93)), (BESIROGLU, (24, 22, 18))]
)
def test_tokens_per_parameter_of_the_published_fits(fit, tokens_per_parameter):
    for flops, wanted in zip((1e19, 1e21, 5.76e23), tokens_per_parameter, strict=True):
        n, d = scaling.compute_optimal(flops, *fit)
        assert d / n == pytest.approx(wanted, abs=1)


def test_chinchilla():
    """Its 70e9 parameters and 1.4e12 tokens are close to the optimum of the corrected fit."""
    n, d = scaling.compute_optimal(6 * 70e9 * 1.4e12, *BESIROGLU)
    assert n == pytest.approx(70e9, rel=0.1)
    assert d == pytest.approx(1.4e12, rel=0.1)


def test_both_grow_alike_where_both_powers_are_alike():
    small, large = (scaling.compute_optimal(flops, 9.0, 4.0, 0.3, 0.3) for flops in (1e15, 1e17))
    assert [one / other for one, other in zip(large, small, strict=True)] == pytest.approx([10, 10])


# --- Learners' spellings of the parts ------------------------------------------------------------

COUNTED = (
    "d, h = sizes.d_model, 4 * sizes.d_model; "
    "e = sizes.vocabulary * d + sizes.context * d; "
    "a = sizes.n_layers * (d * 3 * d + 3 * d + d * d + d); "
    "f = sizes.n_layers * (d * h + h + h * d + d); "
    "n = sizes.n_layers * 2 * (d + d) + 2 * d; "
    "t = 0 if sizes.tied else sizes.vocabulary * d; "
)
COUNTS = '"embedding": e, "attention": a, "feed_forward": f, "norms": n, "head": t'
SUM = f'return {{{COUNTS}, "total": e + a + f + n + t}}'
LAYER = (
    "d, l, v = sizes.d_model, sizes.n_layers, sizes.vocabulary; "
    "f = 2 * (l * (4 * d * d + 8 * d * d) + d * v + 2 * l * n_tokens * d); "
)
REPORT = (
    'w = count_parameters(sizes)["total"]; b = bytes_per_number; t = n_rows * n_tokens; '
    "d, l = sizes.d_model, sizes.n_layers; "
    'if mode not in ["training", "generation"]: raise ValueError(mode); '
    "k = t * (16 * d * l + 2 * d + sizes.vocabulary) * b; c = t * 2 * l * d * b; "
)
TRAINS = (
    'if mode == "training": return {"weights": w * b, "gradients": w * b, "optimiser": 2 * w * b, '
    '"activations": k, "total": 4 * w * b + k}; '
)
WRITES = 'return {"weights": w * b, "cache": c, "total": w * b + c}'
MODES = 'mode not in ["training", "generation"]'
LOGS = "x, y = torch.log(n.double()), torch.log(loss.double() - floor); "
SLOPE = (
    "s = torch.dot(x - x.mean(), y - y.mean()) / torch.dot(x - x.mean(), x - x.mean()); "
    "h = y.mean() - s * x.mean(); "
)

SPELLINGS = [
    ("count_parameters", "", COUNTED + SUM),
    ("count_parameters", "tied_counted_twice", f"{COUNTED}t = sizes.vocabulary * d; {SUM}"),
    ("count_parameters", "forgot_feed_forward", f"{COUNTED}f = 0; {SUM}"),
    (
        "count_parameters",
        "two_l_d_squared",
        f'{COUNTED}return {{{COUNTS}, "total": 2 * sizes.n_layers * d * d}}',
    ),
    ("count_parameters", "forgot_norms", f"{COUNTED}n = 0; {SUM}"),
    (
        "count_parameters",
        "forgot_biases_of_attention",
        f"{COUNTED}a -= 4 * d * sizes.n_layers; {SUM}",
    ),
    (
        "count_parameters",
        "biases_of_one_block",
        f"{COUNTED}l = sizes.n_layers; a = l * 4 * d**2 + 4 * d; f = l * 8 * d**2 + 5 * d; {SUM}",
    ),
    ("count_parameters", "forgot_total", f"{COUNTED}return {{{COUNTS}}}"),
    ("flops_per_token", "", f"{LAYER}return f * (3 if training else 1)"),
    ("flops_per_token", "", f"{LAYER}return f + f * 2 * int(training)"),
    (
        "flops_per_token",
        "",
        f"import numpy as np; {LAYER}return np.int64(f * (3 if training else 1))",
    ),
    (
        "flops_per_token",
        "biases_multiplied",
        f"{LAYER}f += 18 * l * d; return f * (3 if training else 1)",
    ),
    ("flops_per_token", "mac_not_flop", f"{LAYER}return f // 2 * (3 if training else 1)"),
    ("flops_per_token", "backward_equals_forward", f"{LAYER}return f + f * training"),
    (
        "flops_per_token",
        "no_attention_term",
        f"{LAYER}f = 2 * (12 * l * d**2 + v * d); return f * (3 if training else 1)",
    ),
    (
        "flops_per_token",
        "six_times_all_parameters",
        'p = count_parameters(sizes)["total"]; return 6 * p if training else 2 * p',
    ),
    ("memory_report", "", REPORT + TRAINS + WRITES),
    (
        "memory_report",
        "forgot_optimiser",
        REPORT + TRAINS.replace("2 * w * b", "0").replace("4 * w", "2 * w") + WRITES,
    ),
    ("memory_report", "cache_times_two_model", f"{REPORT}c = w * b; {TRAINS}{WRITES}"),
    ("memory_report", "bits_for_bytes", REPORT.replace("b = b", "b = 8 * b") + TRAINS + WRITES),
    (
        "memory_report",
        "other_modes_generate",
        REPORT.replace("raise ValueError(mode)", "pass") + TRAINS + WRITES,
    ),
    (
        "memory_report",
        "nothing_for_other_modes",
        REPORT.replace("raise ValueError(mode)", "return") + TRAINS + WRITES,
    ),
    ("memory_report", "one_row", REPORT.replace("n_rows * n", "n") + TRAINS + WRITES),
    *[
        ("memory_report", "parts_of_names_are_modes", REPORT.replace(MODES, one) + TRAINS + WRITES)
        for one in (
            'mode not in "training, generation"',
            'mode not in ("training" "generation")',
            'not mode.startswith(("train", "gen"))',
            'mode[0] not in "tg"',
        )
    ],
    ("fit_power_law", "", f"{LOGS}{SLOPE}return torch.exp(h).item(), -s.item()"),
    ("fit_power_law", "", f"{LOGS}{SLOPE}return float(h.exp()), -float(s)"),
    (
        "fit_power_law",
        "needs_one_dtype",
        f"x, y = n.log(), (loss - floor).log(); {SLOPE}return h.exp().item(), -s.item()",
    ),
    ("fit_power_law", "sign", f"{LOGS}{SLOPE}return h.exp().item(), s.item()"),
    ("fit_power_law", "loge_and_powers_of_10", f"{LOGS}{SLOPE}return 10 ** h.item(), -s.item()"),
    (
        "fit_power_law",
        "exponential_fit",
        f"x, y = n, torch.log(loss - floor); {SLOPE}return h.exp().item(), -s.item()",
    ),
    (
        "fit_power_law",
        "fit_without_logs",
        f"x, y = n, loss - floor; {SLOPE}return h.item(), -s.item()",
    ),
    ("fit_power_law", "tensors_for_numbers", f"{LOGS}{SLOPE}return h.exp(), -s"),
    ("foretell", "", "a, alpha = fit_power_law(n, loss, floor); return a / size**alpha + floor"),
    (
        "foretell",
        "forgot_floor",
        "a, alpha = fit_power_law(n, loss, floor); return a / size**alpha",
    ),
    (
        "foretell",
        "fitted_without_floor",
        "a, alpha = fit_power_law(n, loss); return floor + a / size**alpha",
    ),
    (
        "foretell",
        "sign",
        "a, alpha = fit_power_law(n, loss, floor); return floor + a * size**alpha",
    ),
    (
        "compute_optimal",
        "",
        "c = flops / 6; n = (alpha * a * c**beta / (beta * b)) ** (1 / (alpha + beta)); "
        "return n, c / n",
    ),
    (
        "compute_optimal",
        "c_equals_nd",
        "n = (alpha * a * flops**beta / (beta * b)) ** (1 / (alpha + beta)); return n, flops / n",
    ),
    (
        "compute_optimal",
        "no_parentheses_below",
        "n = (alpha * a / beta * b * (flops / 6) ** beta) ** (1 / (alpha + beta)); "
        "return n, flops / 6 / n",
    ),
    ("compute_optimal", "twenty_tokens", "n = (flops / 6 / 20) ** 0.5; return n, 20 * n"),
    ("compute_optimal", "kaplan_ratio", "n = (flops / 6) ** 0.73; return n, flops / 6 / n"),
]


def answer(part: str, body: str) -> str:
    """The blank of a part with `body` written into it. `;` begins a new line."""
    blank = parts.blank(part)
    gap = re.search(r'^( *)raise NotImplementedError\("your turn"\)$', blank, re.MULTILINE)
    lines = [gap[1] + line.strip() for line in body.split(";")]
    return blank.replace(gap[0], "\n".join(lines))


@pytest.mark.parametrize(("name", "mistake", "body"), SPELLINGS)
def test_other_spellings_are_named(name, mistake, body):
    part = f"scaling.{name}"
    verdict = worker.examine(part, answer(part, body))
    assert (verdict.state, verdict.mistake) == ("wrong" if mistake else "right", mistake), verdict


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ("assert False, mode", "yours raises AssertionError"),
        ('raise NotImplementedError("your turn")', "yours raises NotImplementedError"),
        ("return ValueError(mode)", "yours gives ValueError('inference')"),
        ('return None, "no such mode"', "yours gives (None, 'no such mode')"),
        ('return {"total": 0}', "yours gives a report with total"),
    ],
)
def test_what_is_done_for_an_unknown_mode_is_said(otherwise, said):
    body = REPORT.replace("raise ValueError(mode)", otherwise) + TRAINS + WRITES
    verdict = worker.examine("scaling.memory_report", answer("scaling.memory_report", body))
    assert verdict.state == "wrong"
    assert said in verdict.headline
