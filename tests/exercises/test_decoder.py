"""Answers to the exercises of notebook 06 that a check once took for what they are not."""

import functools

import pytest

from course_utils import decoder, exercises
from course_utils.engine.check import check


def _verdict(part: str, answer):
    return check(exercises.find(f"decoder.{part}"), answer)


class _Masked(decoder.GPT):
    """A GPT whose mask is made by a method."""

    def mask(self, ids):
        return decoder.causal_mask(ids.shape[1]).to(ids.device)

    def forward(self, ids):
        x, mask = self.embed(ids), self.mask(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


@pytest.mark.parametrize(
    "with_axes",
    [
        lambda mask, ids: mask[None, None],
        lambda mask, ids: mask[None],
        lambda mask, ids: mask.expand(len(ids), 1, -1, -1),
    ],
)
def test_a_mask_may_have_axes_for_batch_and_heads(with_axes):
    class Answer(_Masked):
        def mask(self, ids):
            return with_axes(super().mask(ids), ids)

    verdict = _verdict("GPT", Answer)
    assert verdict.state == "right", verdict


def test_a_mask_kept_for_each_length_and_device_is_right():
    class Answer(_Masked):
        def mask(self, ids):
            kept = self.__dict__.setdefault("kept", {})
            return kept.setdefault((ids.shape[1], ids.device), super().mask(ids))

    assert _verdict("GPT", Answer).state == "right"


def test_a_mask_kept_for_each_length_alone_is_refused():
    class Answer(_Masked):
        def mask(self, ids):
            kept = self.__dict__.setdefault("kept", {})
            return kept.setdefault(ids.shape[1], super().mask(ids))

    verdict = _verdict("GPT", Answer)
    assert verdict.state == "wrong"
    assert "on a graphics card your model would stop" in verdict.headline


def test_an_embedding_kept_for_each_shape_is_refused():
    class Answer(_Masked):
        def forward(self, ids):
            kept = self.__dict__.setdefault("kept", {})
            x, mask = kept.setdefault(ids.shape, self.embed(ids)), self.mask(ids)
            for block in self.blocks:
                x = block(x, mask)
            return self.head(self.norm(x))

    verdict = _verdict("GPT", Answer)
    assert (verdict.state, verdict.case) == ("wrong", "the same model again, after other texts")


# --- a decoder block -----------------------------------------------------------------------------


def _keeps(name: str, index: int):
    """A block that keeps one of its arguments for all later calls of the same shapes."""

    class Answer(decoder.DecoderBlock):
        def forward(self, x, memory, self_mask=None, memory_mask=None):
            kept = self.__dict__.setdefault("kept", {})
            given = [x, memory, self_mask, memory_mask]
            key = (x.shape, memory.shape)
            given[index] = kept.setdefault(key, given[index])
            return super().forward(*given)

    Answer.__name__ = name
    return Answer


@pytest.mark.parametrize(
    ("name", "index"), [("Memory", 1), ("SelfMask", 2), ("MemoryMask", 3)], ids=lambda one: str(one)
)
def test_a_block_that_keeps_what_an_earlier_call_brought_is_refused(name, index):
    verdict = _verdict("DecoderBlock", _keeps(name, index))
    assert verdict.state == "wrong"
    assert verdict.case.startswith("the same block again")


# --- an encoder and a decoder --------------------------------------------------------------------


def test_a_memory_kept_for_each_shape_is_refused():
    class Answer(decoder.Seq2Seq):
        def forward(self, source, target, source_mask=None):
            kept = self.__dict__.setdefault("kept", {})
            memory = kept.setdefault(source.shape, self.encoder(source, source_mask))
            x, mask = self.embed(target), decoder.causal_mask(target.shape[1]).to(target.device)
            for block in self.blocks:
                x = block(x, memory, mask, source_mask)
            return self.head(self.norm(x))

    verdict = _verdict("Seq2Seq", Answer)
    assert verdict.state == "wrong"
    assert verdict.case.startswith("the same model again")


def test_a_mask_that_stays_on_the_processor_is_refused():
    class Answer(decoder.Seq2Seq):
        def forward(self, source, target, source_mask=None):
            memory, x = self.encoder(source, source_mask), self.embed(target)
            for block in self.blocks:
                x = block(x, memory, decoder.causal_mask(target.shape[1]), source_mask)
            return self.head(self.norm(x))

    verdict = _verdict("Seq2Seq", Answer)
    assert verdict.state == "wrong"
    assert "on a graphics card your model would stop" in verdict.headline


# --- the mask ------------------------------------------------------------------------------------


def test_a_mask_that_is_handed_out_twice_is_refused():
    kept = functools.cache(decoder.causal_mask)

    def causal_mask(n_query, n_key=None):
        return kept(n_query, n_key)

    verdict = _verdict("causal_mask", causal_mask)
    assert verdict.state == "wrong"
    assert "two calls give the same tensor" in verdict.headline

    def a_copy(n_query, n_key=None):
        return kept(n_query, n_key).clone()

    assert _verdict("causal_mask", a_copy).state == "right"
