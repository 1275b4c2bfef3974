"""T5's distances are those of T5, and a model that goes on from its caches is the same model."""

import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from course_utils import decoder, encoder, exercises, modern, positions, sampling
from course_utils.families import barts, cached, t5s
from course_utils.projection import Embedding

# --- Distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_ranges", "reach"), [(32, 128), (32, 20), (10, 7), (8, 6), (64, 500)])
def test_ranges_are_those_of_t5(n_ranges: int, reach: int) -> None:
    modeling = pytest.importorskip(
        "transformers.models.t5.modeling_t5", reason='pip install -e ".[parity]"'
    )
    bucket = modeling.T5Attention._relative_position_bucket
    distances = torch.arange(-reach, reach + 1)
    for by_distance, both_ways in ((t5s.before, False), (t5s.before_and_after, True)):
        wanted = bucket(-distances, both_ways, n_ranges, reach)  # they subtract the other way
        assert torch.equal(by_distance(n_ranges, reach), wanted)
        ends = bucket(torch.tensor([10 * reach, -10 * reach]), both_ways, n_ranges, reach)
        assert torch.equal(by_distance(n_ranges, reach)[[0, -1]], ends)


def test_ranges_by_hand() -> None:
    """Of four, two are for 0 and 1; from 2 to 8 is doubled twice, and each doubling has one."""
    assert t5s.ranges(torch.arange(11), 4, 8).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]
    assert t5s.before(4, 3).tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert t5s.before_and_after(8, 3).tolist() == [7, 6, 5, 0, 1, 2, 3]


def test_the_bias_of_the_last_tokens_is_that_of_all() -> None:
    bias = t5s.RangeBias(8, 2, t5s.before_and_after(8, 5))
    whole = bias(9, 9)
    assert whole.shape == (2, 9, 9)
    assert torch.equal(bias(3, 9), whole[:, 6:])


# --- Going on from what is remembered ------------------------------------------------------------

D_MODEL, N_HEADS, VOCABULARY, CONTEXT = 12, 3, 7, 16
T5_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": D_MODEL,
    "d_kv": 5,
    "d_ff": 20,
    "num_heads": N_HEADS,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "tie_word_embeddings": False,
}
BART_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": D_MODEL,
    "max_position_embeddings": CONTEXT,
    "encoder_layers": 2,
    "encoder_attention_heads": N_HEADS,
    "encoder_ffn_dim": 20,
    "decoder_layers": 3,
    "decoder_attention_heads": 2 * N_HEADS,
    "decoder_ffn_dim": 18,
}


def of_2017() -> decoder.Seq2Seq:
    """The usual parts, with sinusoids."""

    def embed() -> nn.Module:
        places = positions.SinusoidalPositions()
        return positions.InputEmbedding(Embedding(VOCABULARY, D_MODEL), places)

    read = [encoder.block(D_MODEL, N_HEADS) for _ in range(2)]
    write = [decoder.decoder_block(D_MODEL, N_HEADS) for _ in range(3)]
    norms = encoder.LayerNorm(D_MODEL), encoder.LayerNorm(D_MODEL)
    head = nn.Linear(D_MODEL, VOCABULARY)
    return decoder.Seq2Seq(encoder.Encoder(embed(), read, norms[0]), embed(), write, norms[1], head)


@pytest.fixture(params=["t5", "bart", "2017"])
def model(request: pytest.FixtureRequest) -> decoder.Seq2Seq:
    torch.manual_seed(0)
    make = {"t5": lambda: t5s.t5(T5_SIZES), "bart": lambda: barts.bart(BART_SIZES), "2017": of_2017}
    model = make[request.param]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + (parameter.dim() == 1))
    return model


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padded(rows: int) -> tuple[Tensor, Tensor]:
    """A source, of which some rows are padded, and its mask."""
    source = integers(rows, 6, seed=1)
    source[1:, 4:] = 0
    return source, encoder.padding_mask(source, 0)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("ends", [range(1, 11), (1, 2, 6, 10), (4, 5, 10), (10,)], ids=str)
def test_cached_logits_are_those_of_the_whole_target(model, rows, ends):
    source, mask = padded(rows)
    target, goes_on = integers(rows, 10), cached.CachedSeq2Seq(model, CONTEXT, source, mask)
    start = 0
    for end in ends:
        wanted = model(source, target[:, :end], mask)[:, start:]
        torch.testing.assert_close(goes_on(target[:, :end]), wanted, rtol=1e-5, atol=1e-5)
        start = end


def test_nothing_is_computed_twice(model):
    source, mask = padded(3)
    target, goes_on = integers(3, 5), cached.CachedSeq2Seq(model, CONTEXT, source, mask)
    goes_on(target[:, :4])
    read = []
    for module in goes_on.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, args, output: read.append(args[0].shape[1]))
    goes_on(target)
    assert set(read) == {1}  # one token of the target, and nothing of the source


@torch.no_grad()
def test_a_cached_model_writes_the_same_text(model):
    source, mask = padded(3)
    goes_on = cached.CachedSeq2Seq(model, CONTEXT, source, mask)

    def whole(target: Tensor) -> Tensor:
        return model(source, target, mask)

    for start in (torch.ones(3, 1, dtype=torch.long), integers(3, 4)):
        wanted = sampling.generate(whole, start, 9, sampling.greedy)
        assert torch.equal(sampling.generate(goes_on, start, 9, sampling.greedy), wanted)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_cached_model_finds_the_same_beams(model, width):
    source = integers(1, 6, seed=1)
    goes_on = cached.CachedSeq2Seq(model, CONTEXT, source)

    def whole(target: Tensor) -> Tensor:
        return model(source.expand(len(target), -1), target)

    for seed in range(3):
        ids = integers(3, seed=seed)
        wanted = sampling.beam_search(whole, ids, 8, width, 0.6, end=seed)
        found = sampling.beam_search(goes_on, ids, 8, width, 0.6, end=seed)
        assert [row.tolist() for row, _ in found] == [row.tolist() for row, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted])


@torch.no_grad()
def test_rows_of_one_source_may_be_dropped_doubled_and_changed_about(model):
    source, target = integers(1, 6, seed=1), integers(3, 4)
    goes_on = cached.CachedSeq2Seq(model, CONTEXT, source)
    goes_on(target)
    for rows in ([2, 0, 0, 1], [3, 3], [1, 0, 1]):
        target = torch.cat((target[rows], integers(len(rows), 1)), dim=1)
        wanted = model(source.expand(len(rows), -1), target)[:, -1:]
        answer = goes_on(target)
        assert answer.shape[1] == 1
        torch.testing.assert_close(answer, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_of_several_sources_stay_with_their_source(model):
    """The same words are another text where another source was read."""
    source, mask = padded(3)
    target, goes_on = integers(3, 4), cached.CachedSeq2Seq(model, CONTEXT, source, mask)
    goes_on(target)
    changed = torch.cat((target[[1, 0, 0]], target[:, :1]), dim=1)
    wanted = model(source, changed, mask)
    torch.testing.assert_close(goes_on(changed), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_target_that_does_not_go_on_is_read_anew(model):
    source, mask = padded(3)
    target, goes_on = integers(3, 6), cached.CachedSeq2Seq(model, CONTEXT, source, mask)
    goes_on(target)
    for other in (target[:, :4], target.flip(1), target.flip(1), integers(3, 8, seed=2)):
        wanted = model(source, other, mask)
        torch.testing.assert_close(goes_on(other), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_target_that_is_changed_in_place_is_noticed(model):
    source, target = integers(1, 6, seed=1), integers(1, 6)
    goes_on = cached.CachedSeq2Seq(model, CONTEXT, source)
    goes_on(target)
    target[0, 0] = (target[0, 0] + 1) % VOCABULARY
    longer = torch.cat((target, target[:, :1]), dim=1)
    torch.testing.assert_close(goes_on(longer), model(source, longer), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_interrupted_reading_is_begun_again(model, monkeypatch):
    source, target = integers(1, 6, seed=1), integers(1, 6)
    goes_on = cached.CachedSeq2Seq(model, CONTEXT, source)
    goes_on(target[:, :5])

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(goes_on.model.blocks[1].feed_forward, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            goes_on(target)
    torch.testing.assert_close(goes_on(target), model(source, target), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_model_is_left_as_it_was_and_weights_are_shared(model):
    source, target = integers(2, 6, seed=1), integers(2, 4)
    goes_on, names = cached.CachedSeq2Seq(model, CONTEXT, source), set(dict(model.named_modules()))
    goes_on(target)
    assert set(dict(model.named_modules())) == names
    ours = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in goes_on.model.parameters()} == ours


def test_no_more_is_read_than_the_context_has_room_for(model):
    goes_on = cached.CachedSeq2Seq(model, 4, integers(1, 6, seed=1))
    with pytest.raises(ValueError, match="context is 4"):
        goes_on(integers(1, 5))


@pytest.mark.parametrize(
    "layer",
    [positions.RotaryAttention(8, 2), modern.GroupedAttention(8, 4, 2), nn.Linear(8, 8)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_cannot_go_on_is_refused(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=f"only MultiHeadAttention can .*{type(layer).__name__}"):
        cached.cached(layer, 4)


# --- Whatever a learner wrote --------------------------------------------------------------------

PARTS = [
    exercises.find(part)
    for part in exercises.PARTS
    if part.split(".")[0] in ("projection", "attention", "encoder", "decoder")
    or part in ("positions.add_positions", "positions.relative_bias")
    or part in ("modern.rms_norm", "sampling.KVCache")
]
RIGHT = [
    pytest.param(each.part, answer, id=f"{each.part}-{answer.__name__}")
    for each in PARTS
    for answer in each.alternatives
]


@torch.no_grad()
@pytest.mark.parametrize(("part", "answer"), RIGHT)
def test_any_right_answer_gives_the_same_model(
    part: str, answer: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = integers(2, 6, seed=1), integers(2, 5)
    makers = (lambda: t5s.t5(T5_SIZES), lambda: barts.bart(BART_SIZES), of_2017)
    torch.manual_seed(0)
    wanted = [make().eval() for make in makers]
    for parameter in (each for model in wanted for each in model.parameters()):
        parameter += 0.1 * torch.randn(parameter.shape)  # a new bias is 0
    expected = [model(source, target) for model in wanted]
    module, name = part.split(".")
    monkeypatch.setattr(importlib.import_module(f"course_utils.{module}"), name, answer)
    for make, model, logits in zip(makers, wanted, expected, strict=True):
        found = make().eval()
        found.load_state_dict(model.state_dict())
        torch.testing.assert_close(found(source, target), logits, rtol=1e-5, atol=1e-5)
        goes_on = cached.CachedSeq2Seq(found, CONTEXT, source)
        bits = torch.cat([goes_on(target[:, :end]) for end in (2, 3, 5)], dim=1)
        torch.testing.assert_close(bits, logits, rtol=1e-5, atol=1e-5)
