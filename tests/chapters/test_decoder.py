"""`course_utils.decoder` against torch's own layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_utils import decoder, encoder, modern
from course_utils.exercises.inputs import integers, normal
from course_utils.exercises.layers import torch_weights
from course_utils.families import pretrained
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

few = settings(max_examples=25, deadline=None)

D_MODEL, N_HEADS, VOCABULARY = 12, 3, 7
ATTENTIONS = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}


def randomise(module: nn.Module) -> None:
    """Other weights, biases and gains everywhere: what starts at 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            scale = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))


# --- the small functions -------------------------------------------------------------------------


@few
@given(st.integers(1, 6), st.integers(0, 5))
def test_causal_mask_shows_what_is_not_later(n_query, n_cached):
    mask = decoder.causal_mask(n_query, n_cached + n_query)
    assert mask.dtype == torch.bool
    for query in range(n_query):
        for key in range(n_cached + n_query):
            assert mask[query, key] == (key <= query + n_cached)


def test_causal_mask_is_torchs():
    theirs = nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.equal(decoder.causal_mask(5), theirs == 0)


def test_every_token_is_the_target_of_the_one_before_it():
    ids = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23]])
    read, said = decoder.shift_targets(ids)
    assert read.tolist() == [[10, 11, 12], [20, 21, 22]]
    assert said.tolist() == [[11, 12, 13], [21, 22, 23]]


# --- GPT -----------------------------------------------------------------------------------------


def _gpt(n_layers: int = 3) -> decoder.GPT:
    model = decoder.gpt(VOCABULARY, D_MODEL, N_HEADS, n_layers, context=6)
    randomise(model)
    return model


def test_gpt_is_made_of_torchs_layers():
    model, ids = _gpt(), integers(2, 5, below=VOCABULARY)
    x = F.embedding(ids, model.embed.tokens.weight) + model.embed.positions.weight[:5]
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            D_MODEL, N_HEADS, 4 * D_MODEL, 0.0, "gelu", batch_first=True, norm_first=True
        )
        layer.load_state_dict(torch_weights(block.state_dict(), {"attention": "self_attn"}))
        x = layer(x, src_mask=~torch.ones(5, 5).bool().tril())
    x = F.layer_norm(x, [D_MODEL], model.norm.weight, model.norm.bias)
    torch.testing.assert_close(model(ids), x @ model.head.weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", range(1, 6))
def test_a_later_token_changes_nothing_before_it(place):
    model, ids = _gpt(), integers(2, 6, below=VOCABULARY)
    other = ids.clone()
    other[:, place] = (ids[:, place] + 1) % VOCABULARY
    assert torch.equal(model(ids)[:, :place], model(other)[:, :place])
    assert not torch.allclose(model(ids)[:, place], model(other)[:, place])


def test_the_gradient_of_a_score_does_not_reach_later_tokens():
    model = _gpt()
    x = model.embed(integers(1, 6, below=VOCABULARY)).detach().requires_grad_()
    model.embed = nn.Identity()
    scores = model.head(model.norm(_through_blocks(model, x)))
    (gradient,) = torch.autograd.grad(scores[:, 3].sin().sum(), x)
    assert (gradient[:, 4:] == 0).all()
    assert (gradient[:, :4] != 0).any(-1).all()


def _through_blocks(model: decoder.GPT, x: torch.Tensor) -> torch.Tensor:
    for block in model.blocks:
        x = block(x, decoder.causal_mask(x.shape[1]))
    return x


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="x has 7 tokens, but positions were learned for 6 only"):
        _gpt()(integers(1, 7, below=VOCABULARY))


def test_other_words_give_other_scores_of_the_shipped_model():
    model = pretrained.sentences_model()
    with torch.no_grad():
        scores = model(integers(2, 8, below=42))
    assert scores.shape == (2, 8, 42)
    assert not torch.allclose(scores[0], scores[1])


# --- DecoderBlock against nn.TransformerDecoderLayer ---------------------------------------------

CAUSAL = torch.ones(4, 4, dtype=torch.bool).tril()
PADDING = (torch.arange(6) < torch.tensor([[3], [6]]))[:, None, None]


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("self_mask", [None, CAUSAL], ids=["free", "causal"])
@pytest.mark.parametrize("memory_mask", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decoder_block_is_torchs(norm_first, self_mask, memory_mask, dtype):
    ours = decoder.decoder_block(D_MODEL, N_HEADS, norm_first).to(dtype)
    randomise(ours)
    theirs = nn.TransformerDecoderLayer(
        D_MODEL, N_HEADS, 4 * D_MODEL, 0.0, "gelu", batch_first=True, norm_first=norm_first
    ).to(dtype)
    theirs.load_state_dict(torch_weights(ours.state_dict(), ATTENTIONS))
    x = normal(2, 4, D_MODEL, dtype=dtype).requires_grad_()
    memory = normal(2, 6, D_MODEL, seed=1, dtype=dtype).requires_grad_()
    output = ours(x, memory, self_mask, memory_mask)
    wanted = theirs(
        x,
        memory,
        tgt_mask=None if self_mask is None else ~self_mask,
        memory_key_padding_mask=None if memory_mask is None else ~memory_mask[:, 0, 0],
    )
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-5)

    names, weights = zip(*ours.named_parameters(), strict=True)
    their_names, their_weights = zip(*theirs.named_parameters(), strict=True)
    gradients = torch.autograd.grad(output.sin().sum(), [x, memory, *weights])
    wanted = torch.autograd.grad(wanted.sin().sum(), [x, memory, *their_weights])
    torch.testing.assert_close(gradients[:2], wanted[:2], rtol=1e-5, atol=1e-5)
    renamed = torch_weights(dict(zip(names, gradients[2:], strict=True)), ATTENTIONS)
    for name, gradient in zip(their_names, wanted[2:], strict=True):
        torch.testing.assert_close(renamed[name], gradient, rtol=1e-5, atol=1e-5)


# --- Seq2Seq -------------------------------------------------------------------------------------


def _seq2seq() -> decoder.Seq2Seq:
    read = encoder.Encoder(
        InputEmbedding(Embedding(9, D_MODEL), LearnedPositions(8, D_MODEL)),
        [encoder.block(D_MODEL, N_HEADS) for _ in range(2)],
        encoder.LayerNorm(D_MODEL),
    )
    model = decoder.Seq2Seq(
        read,
        InputEmbedding(Embedding(VOCABULARY, D_MODEL), LearnedPositions(6, D_MODEL)),
        [decoder.decoder_block(D_MODEL, N_HEADS) for _ in range(2)],
        encoder.LayerNorm(D_MODEL),
        Linear(D_MODEL, VOCABULARY),
    )
    randomise(model)
    return model


def test_seq2seq_scores_every_place_of_the_target():
    assert _seq2seq()(integers(2, 5, below=9), integers(2, 4, below=VOCABULARY)).shape == (
        2,
        4,
        VOCABULARY,
    )


def test_the_target_is_read_from_left_to_right_and_the_source_as_a_whole():
    model, source, target = _seq2seq(), integers(2, 5, below=9), integers(2, 4, below=VOCABULARY)
    scores = model(source, target)
    other = target.clone()
    other[:, 2] = (target[:, 2] + 1) % VOCABULARY
    assert torch.equal(model(source, other)[:, :2], scores[:, :2])
    assert not torch.allclose(model(source, other)[:, 2], scores[:, 2])
    last = source.clone()
    last[:, -1] = (source[:, -1] + 1) % 9
    assert not torch.allclose(model(last, target)[:, 0], scores[:, 0])


def test_padding_in_the_source_changes_nothing():
    model, source, target = (
        _seq2seq(),
        integers(2, 5, below=8) + 1,
        integers(2, 4, below=VOCABULARY),
    )
    padded = F.pad(source, (0, 3))
    seen = model(padded, target, encoder.padding_mask(padded, 0))
    torch.testing.assert_close(seen, model(source, target), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(padded, target), seen, atol=1e-3)


def test_gradients_reach_every_weight():
    model = _seq2seq()
    read, said = decoder.shift_targets(integers(2, 5, below=VOCABULARY))
    scores = model(integers(2, 6, below=9), read)
    F.cross_entropy(scores.flatten(0, 1), said.flatten()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


# --- Given something else ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [decoder.gpt(11, 64, 2, 1, context=8), modern.modern_gpt(11, 64, 2, 1, n_buckets=5)],
    ids=["gpt", "modern"],
)
@pytest.mark.parametrize("shape", [[5], [1, 2, 3], []])
def test_a_model_asks_for_rows_of_tokens(shape, model):
    with pytest.raises(ValueError, match=r"ids must be \[batch, tokens\], got the shape") as caught:
        model(torch.zeros(shape, dtype=torch.long))
    assert str(shape) in str(caught.value)
    assert ("a single row is ids[None]" in str(caught.value)) == (len(shape) == 1)
