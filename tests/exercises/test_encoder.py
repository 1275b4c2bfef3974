"""Answers to the exercises of notebook 05 that a check once took for what they are not."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from course_utils import encoder, exercises
from course_utils.engine.check import check


def _verdict(part: str, answer):
    return check(exercises.find(f"encoder.{part}"), answer)


class _Remembers(encoder.TransformerBlock):
    """A block whose mask comes from a method."""

    def mask_for(self, x, mask):
        return mask

    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=self.mask_for(x, mask))
        x = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


class _MaskOfEachLength(_Remembers):
    def mask_for(self, x, mask):
        kept = self.__dict__.setdefault("kept", {})
        return kept.setdefault((x.shape, mask is None), mask)


class _AnswerOfEachShape(_Remembers):
    def forward(self, x, mask=None):
        kept = self.__dict__.setdefault("kept", {})
        return kept.setdefault(x.shape, super().forward(x, mask))


class _WeightsOfTheFirstCall(_Remembers):
    def forward(self, x, mask=None):
        kept = self.__dict__.setdefault("kept", {})
        gain = kept.setdefault("gain", getattr(self.norm1, "weight", None))
        if gain is None:
            return super().forward(x, mask)
        return super().forward(x, mask) + (gain - self.norm1.weight)


@pytest.mark.parametrize("block", [_MaskOfEachLength, _AnswerOfEachShape, _WeightsOfTheFirstCall])
def test_a_block_that_remembers_an_earlier_call_is_refused(block):
    verdict = _verdict("TransformerBlock", block)
    assert verdict.state == "wrong"
    assert verdict.case.startswith("the same block again")


def test_a_block_that_only_looks_back_is_right():
    class Notes(_Remembers):
        def mask_for(self, x, mask):
            self.last = (x, mask)
            return mask

    assert _verdict("TransformerBlock", Notes).state == "right"


@pytest.mark.parametrize(
    "pool",
    [
        lambda x, keep: (x * keep.float()[..., None]).sum(1) / keep.float().sum(1)[:, None],
        lambda x, keep: torch.stack([one[kept].mean(0) for one, kept in zip(x, keep)]),  # noqa: B905
        lambda x, keep: x.masked_fill(~keep[..., None], torch.nan).nanmean(1),
    ],
)
def test_pools_of_other_habits_are_right(pool):
    def mean_pool(x, keep):
        return pool(x, keep)

    verdict = _verdict("mean_pool", mean_pool)
    assert verdict.state == "right", verdict


def _in_float32(x, gain, bias, eps=1e-5):
    """The habit of Llama's norm."""
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps).type_as(x)
    return normed * gain + bias


def _statistics_in_float32(x, gain, bias, eps=1e-5):
    wide = x.float()
    mean, variance = wide.mean(-1, keepdim=True), wide.var(-1, keepdim=True, correction=0)
    return (x - mean.to(x)) / torch.sqrt(variance.to(x) + eps) * gain + bias


def _in_float32_at_least(x, gain, bias, eps=1e-5):
    wide = torch.promote_types(x.dtype, torch.float32)
    return F.layer_norm(x.to(wide), x.shape[-1:], gain.to(wide), bias.to(wide), eps).type_as(x)


@pytest.mark.parametrize("answer", [_in_float32, _statistics_in_float32])
def test_a_norm_in_float32_is_told_why_it_is_refused(answer):
    verdict = _verdict("layer_norm", answer)
    assert verdict.state == "wrong"
    assert "something on the way is float32" in verdict.headline


def test_a_norm_in_float32_at_least_is_right():
    assert _verdict("layer_norm", _in_float32_at_least).state == "right"


def test_a_silent_sublayer_is_no_reason_to_leave_the_norm_out():
    def step(x, sublayer, norm, norm_first=True):
        written = sublayer(norm(x) if norm_first else x)
        if not written.any():
            return x
        return x + written if norm_first else norm(x + written)

    assert _verdict("residual_step", step).case == "a sublayer with nothing to say"
