"""Answers to the exercises of notebooks 02 and 03 that a check once took, or refused, wrongly."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import attention, exercises
from course_utils.engine import parts, worker
from course_utils.engine.check import check


def verdict_on(name, answer):
    return check(exercises.find(f"attention.{name}"), answer)


# --- einops --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("split_heads", 'rearrange(x, "b t (h d) -> b h t d", h=n_heads)'),
        ("merge_heads", 'rearrange(x, "b h t d -> b t (h d)")'),
        ("attention_scores", 'einsum(query, key, "... q d, ... k d -> ... q k")'),
        ("mix_values", 'einsum(weights, value, "... q k, ... k d -> ... q d")'),
    ],
)
def test_einops_may_be_imported_in_a_cell(name, line):
    part = f"attention.{name}"
    blank = parts.blank(part).replace('raise NotImplementedError("your turn")', f"return {line}")
    verdict = worker.examine(part, f"from einops import einsum, rearrange\n\n\n{blank}")
    assert verdict.state == "right", verdict


# --- views, masks ---------------------------------------------------------------------------------


def _scores_of_views(query, key):
    q, k = query.view(-1, *query.shape[-2:]), key.view(-1, *key.shape[-2:])
    return (q @ k.mT).view(*query.shape[:-1], key.shape[-2])


def _values_of_views(weights, value):
    mixed = weights.reshape(-1, *weights.shape[-2:]) @ value.view(-1, *value.shape[-2:])
    return mixed.view(*weights.shape[:-1], value.shape[-1])


@pytest.mark.parametrize(
    ("name", "answer"), [("attention_scores", _scores_of_views), ("mix_values", _values_of_views)]
)
def test_heads_may_be_views(name, answer):
    assert verdict_on(name, answer).case == "heads as `split_heads` leaves them"


def _without_a_mask_of_nothing(query, key, mask=None, bias=None):
    mask = None if mask is None or not mask.any() else mask
    return attention.attention_weights(query, key, mask, bias)


def _with_room_for_heads(query, key, mask=None, bias=None):
    mask = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 and query.ndim == 4 else mask
    return attention.attention_weights(query, key, mask, bias)


@pytest.mark.parametrize(
    ("answer", "case"),
    [
        (_without_a_mask_of_nothing, "no query may look at anything"),
        (_with_room_for_heads, "a mask for each head, for all sentences"),
    ],
)
def test_a_mask_is_used_as_it_is(answer, case):
    assert verdict_on("attention_weights", answer).case == case


def test_a_layer_hands_a_mask_on_as_it_is():
    class Layer(attention.MultiHeadAttention):
        def forward(self, x, memory=None, mask=None, bias=None):
            mask = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
            return super().forward(x, memory, mask, bias)

    verdict = verdict_on("MultiHeadAttention", Layer)
    assert verdict.case == "a mask for each head, for all sentences"


# --- softmax -------------------------------------------------------------------------------------


def nan_to_zero(scores, dim=-1):
    return torch.softmax(scores, dim).nan_to_num(0.0)


def nothing_is_divided_by_one(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True).clamp_min(-1e30))
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / torch.where(total == 0, 1.0, total).to(scores.dtype)


def a_tiny_number_below(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True).clamp_min(-1e30))
    return exponentials / (exponentials.sum(dim, keepdim=True) + 1e-12)


def equal_shares_for_nothing(scores, dim=-1):
    return torch.softmax(scores.clamp_min(torch.finfo(scores.dtype).min), dim)


def clamped_far_out(scores, dim=-1):
    return torch.softmax(scores.clamp(-1e4, 1e4), dim)


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (nan_to_zero, "nan_becomes_zero"),
        (nothing_is_divided_by_one, "nan_becomes_zero"),
        (a_tiny_number_below, "nan_becomes_zero"),
        (equal_shares_for_nothing, "nothing_shared_equally"),
        (clamped_far_out, ""),
    ],
)
def test_a_softmax_that_hides_a_row_without_an_answer_is_refused(answer, mistake):
    verdict = verdict_on("softmax", answer)
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict


# --- attention_weights ---------------------------------------------------------------------------


def hidden_by(fill):
    def weights(query, key, mask=None, bias=None):
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        scores = scores if bias is None else scores + bias
        scores = scores if mask is None else fill(scores, mask)
        return torch.softmax(scores, -1)

    return weights


def by_lowest(scores, mask):
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def by_a_billion(scores, mask):
    return scores.masked_fill(mask == 0, -1e9)


def by_adding_a_billion(scores, mask):
    return scores + -1e9 * (~mask).to(scores.dtype)


def by_lowest_where_nothing_is_left(scores, mask):
    some = mask.any(-1, keepdim=True)
    return torch.where(some, scores.masked_fill(~mask, -math.inf), by_lowest(scores, mask))


def by_looking_at_itself(scores, mask):
    hidden = scores.masked_fill(~mask, -math.inf)
    return torch.where(mask.any(-1, keepdim=True), hidden, scores)


@pytest.mark.parametrize(
    ("fill", "mistake"),
    [
        (by_lowest, "hides_with_a_finite_number"),
        (by_a_billion, "hides_with_a_finite_number"),
        (by_lowest_where_nothing_is_left, "hides_with_a_finite_number"),
        (by_adding_a_billion, "hides_with_a_finite_number"),
        (by_looking_at_itself, ""),
    ],
)
def test_weights_that_look_at_what_is_forbidden_are_refused(fill, mistake):
    verdict = verdict_on("attention_weights", hidden_by(fill))
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict


@pytest.mark.parametrize("fill", [by_lowest, by_a_billion, by_looking_at_itself])
def test_a_mixture_of_what_is_forbidden_is_refused(fill):
    def attend(query, key, value, mask=None, bias=None):
        return hidden_by(fill)(query, key, mask, bias) @ value

    assert verdict_on("scaled_dot_product_attention", attend).state == "wrong"


def test_zeros_where_nothing_may_be_looked_at_are_right():
    """As in torch's own function: no forbidden key gets anything."""

    def weights(query, key, mask=None, bias=None):
        hidden = hidden_by(lambda scores, mask: scores.masked_fill(~mask, -math.inf))
        return hidden(query, key, mask, bias).nan_to_num(0.0)

    assert verdict_on("attention_weights", weights).state == "right"


# --- MultiHeadAttention --------------------------------------------------------------------------


class Kept(attention.MultiHeadAttention):
    """Keeps something of its first calls. What it is, a subclass says."""

    def __init__(self, d_model, n_heads):
        super().__init__(d_model, n_heads)
        self.kept = {}

    def forward(self, x, memory=None, mask=None, bias=None):
        source = x if memory is None else memory
        query, key, value = attention.project_qkv(x, source, self.w_q, self.w_k, self.w_v)
        if self.keeps(x, memory):
            key, value = self.kept.setdefault(self.name(x, memory), (key, value))
        heads = (attention.split_heads(one, self.n_heads) for one in (query, key, value))
        return self.w_o(attention.merge_heads(self.attend(*heads, mask, bias)))

    def keeps(self, x, memory):
        return False

    def name(self, x, memory):
        return "first"

    def attend(self, query, key, value, mask, bias):
        return attention.scaled_dot_product_attention(query, key, value, mask, bias)


class KeysOfTheFirstMemory(Kept):
    def keeps(self, x, memory):
        return memory is not None


class KeysOfTheFirstMemoryOfASize(KeysOfTheFirstMemory):
    def name(self, x, memory):
        return tuple(memory.shape)


class KeysOfTheFirstSentenceOfASize(Kept):
    def keeps(self, x, memory):
        return memory is None

    def name(self, x, memory):
        return tuple(x.shape)


class KeptBySize(Kept):
    """Keeps a mask or a bias for the next call of the same size."""

    def attend(self, query, key, value, mask, bias):
        size = (query.shape[-2], key.shape[-2])
        if mask is not None:
            mask = self.kept.setdefault(("mask", *size), mask)
        if bias is not None:
            bias = self.kept.setdefault(("bias", *size), bias)
        return super().attend(query, key, value, mask, bias)


class MaskStays(Kept):
    def attend(self, query, key, value, mask, bias):
        fits = query.shape[-2], key.shape[-2]
        mask = self.kept.get(fits) if mask is None else mask
        self.kept[fits] = mask
        return super().attend(query, key, value, mask, bias)


@pytest.mark.parametrize(
    ("layer", "mistake"),
    [
        (KeysOfTheFirstMemory, "keeps_the_first_memory"),
        (KeysOfTheFirstMemoryOfASize, "keeps_the_first_memory"),
        (KeysOfTheFirstSentenceOfASize, ""),
        (KeptBySize, ""),
        (MaskStays, ""),
    ],
)
def test_a_layer_that_remembers_is_refused(layer, mistake):
    verdict = verdict_on("MultiHeadAttention", layer)
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict
    assert "second call" in verdict.case


class FormulaWrittenOut(attention.MultiHeadAttention):
    def forward(self, x, memory=None, mask=None, bias=None):
        memory = x if memory is None else memory
        batch, tokens, width = x.shape
        split = (batch, -1, self.n_heads, width // self.n_heads)
        query = self.w_q(x).view(split).transpose(1, 2)
        key = self.w_k(memory).view(split).transpose(1, 2)
        value = self.w_v(memory).view(split).transpose(1, 2)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        scores = scores if bias is None else scores + bias
        scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        heads = torch.softmax(scores, -1) @ value
        return self.w_o(heads.transpose(1, 2).reshape(batch, tokens, width))


class FusedByTorch(FormulaWrittenOut):
    def forward(self, x, memory=None, mask=None, bias=None):
        if mask is not None or bias is not None:
            return super().forward(x, memory, mask, bias)
        heads = [
            attention.split_heads(one, self.n_heads)
            for one in attention.project_qkv(
                x, x if memory is None else memory, self.w_q, self.w_k, self.w_v
            )
        ]
        return self.w_o(attention.merge_heads(F.scaled_dot_product_attention(*heads)))


@pytest.mark.parametrize("layer", [FormulaWrittenOut, FusedByTorch])
def test_weights_that_no_view_can_see_are_refused_as_the_text_says(layer):
    verdict = verdict_on("MultiHeadAttention", layer)
    assert verdict.state == "wrong"
    assert "no view could show your weights" in verdict.headline
    assert "scaled_dot_product_attention" in verdict.headline
    assert "in one call" in attention.MultiHeadAttention.forward.__doc__


class OwnCuts(attention.MultiHeadAttention):
    """Only the weights must be formed by a part: the rest may be written out."""

    def forward(self, x, memory=None, mask=None, bias=None):
        memory = x if memory is None else memory
        sources = ((self.w_q, x), (self.w_k, memory), (self.w_v, memory))
        query, key, value = (
            w(of).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for w, of in sources
        )
        weights = attention.attention_weights(query, key, mask, bias)
        return self.w_o((weights @ value).transpose(1, 2).flatten(-2))


def test_the_rest_of_the_layer_may_be_written_out():
    assert verdict_on("MultiHeadAttention", OwnCuts).state == "right"
    assert issubclass(OwnCuts, nn.Module)
