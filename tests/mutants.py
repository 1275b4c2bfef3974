"""How good the checks are: small wrong changes to every reference, and which of them get through.

`python tests/mutants.py` prints a table. A mutant is the reference with one change that people make
by accident: an operator swapped, a constant off by one, a statement left out. A check should
refuse every mutant that computes something else. Those that compute the same are in EQUIVALENT.
"""

import ast
import dataclasses
import sys
import warnings
from collections import Counter
from collections.abc import Iterator

import torch

from course_utils import exercises
from course_utils.engine import parts
from course_utils.engine.check import check
from course_utils.engine.explaining import edits
from course_utils.engine.explaining.accidents import accidents
from course_utils.engine.explaining.trial import TooSlow, time_limit
from course_utils.exercises import Exercise

SECONDS = 2.0
"""Processor time for one mutant. One that does not end counts as refused."""

A_MATRIX = "a matrix has no other axes: its last one is axis 1"
FOUR_AXES = "a tensor of four axes: -2 and 2 are the same one"
ANY_PAIR = "any random pair of vectors gives a function away that is not linear"
ANY_SIZES = "which sizes are tried is free, as long as some vectors reach beyond 10"
ANY_ROUNDING = "how much rounding to allow is free, within reason"
BOTH_AXES = "a mean over two axes does not mind their order"
BOTH_WAYS = "the comparison is symmetric"
BEGUN = "there are symbols as soon as some of the word is read"
AS_MANY_KEYS = "there are as many keys as counts"
ITS_CHARACTERS = "a string is a sequence of its characters already"
DIAGONAL = "0 and 1 are the same in every dtype, and the sum has the larger one"
EQUAL_LENGTHS = "the lists are as long as each other by then, so nothing checks it twice"
THREE_AXES = "a tensor of three axes: -2 and 1 are the same one"
A_ROW = "beside a column, a vector is broadcast as a row anyway"
TWO_AXES = "ids has two axes: its last one is axis 1"
EVEN = "a cosine is the same for an angle and for its negative"
ONE_COLUMN = "there is one column, and the mean of all differences is the difference of the means"
TRUE_IS_ONE = "True counts as 1, so the sum, the product and the count come out the same"
LOGITS = "logits have two axes: the last one is axis 1"
FIRST_ANYWAY = "the first axis is the one where none is named"
LAST_ANYWAY = "the last axis is the one where none is named"
CHECKED_BEFORE = "a temperature below 0 was refused before"
ONE_LEFT = "where one token is left, its logit does not matter"
ONE_DEVICE = "the check runs on one device"
ALL_AS_LONG = "all of them have one entry for each candidate"
ORDER_OF_AND = "and, or do not mind the order"
CENTRED_ONCE = "the other factor sums to 0, so a constant added to this one adds nothing"
ZEROS_ANYWAY = "sums begin at 0 and maxima at minus infinity in any shape that broadcasts"
ONE_DTYPE = "queries, keys and values have one dtype"
ANY_DIVISOR = "0 divided by any number is 0"
SAME_QUERY = "the same query asks, however often, and the first answer is taken"
SAME_SHAPE = "`special` has the shape of `ids`"
NEVER_THERE = "a number is drawn exactly at the border once in millions of draws"
SQUARED = "a square is the same for a number and for its negative"

EQUIVALENT: dict[str, dict[str, str]] = {
    "projection.dot_and_cosine": {
        "a.norm(dim=-1) → a.norm(dim=1)": A_MATRIX,
        "b.norm(dim=-1) → b.norm(dim=1)": A_MATRIX,
    },
    "projection.is_linear": {
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "10.0 ** power * torch.randn(2, d)": ANY_PAIR,
        "for power in range(-3, 5): → for power in range(5):": ANY_SIZES,
        "range(-3, 5) → range(-2, 5)": ANY_SIZES,
        "range(-3, 5) → range(-4, 5)": ANY_SIZES,
        "range(-3, 5) → range(0, 5)": ANY_SIZES,
        "range(-3, 5) → range(1, 5)": ANY_SIZES,
        "range(-3, 5) → range(-3, 6)": ANY_SIZES,
        "range(-3, 5) → range(-3, 4)": ANY_SIZES,
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "10.0 * torch.randn(2, d, generator=generator)": ANY_SIZES,
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "power * torch.randn(2, d, generator=generator)": ANY_SIZES,
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "power ** 10.0 * torch.randn(2, d, generator=generator)": ANY_SIZES,
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "10.0 ** power + torch.randn(2, d, generator=generator)": ANY_SIZES,
        "10.0 ** power * torch.randn(2, d, generator=generator) → "
        "10.0 ** power / torch.randn(2, d, generator=generator)": ANY_SIZES,
        "10.0 ** power → 20.0 ** power": ANY_SIZES,
        "10.0 ** power → 5.0 ** power": ANY_SIZES,
        "10.0 ** power → -10.0 ** power": ANY_SIZES,
        "10.0 ** power → 10.0 * power": ANY_SIZES,
        "generator = torch.Generator().manual_seed(0) → generator = torch.Generator()": ANY_PAIR,
        "torch.Generator().manual_seed(0) → torch.Generator().manual_seed(1)": ANY_PAIR,
        "torch.Generator().manual_seed(0) → torch.Generator().manual_seed(-1)": ANY_PAIR,
        "torch.Generator().manual_seed(0) → torch.manual_seed(0)": ANY_PAIR,
        "a, b = torch.randn(2, generator=generator) → a, b = torch.randn(2)": ANY_PAIR,
        "together, apart = (f(a * x + b * y), a * f(x) + b * f(y)) → "
        "together, apart = (a * f(x) + b * f(y), f(a * x + b * y))": BOTH_WAYS,
        "(together - apart).norm() → (apart - together).norm()": BOTH_WAYS,
        "0.0001 * (f(x).norm() + f(y).norm()) → 0.0002 * (f(x).norm() + f(y).norm())": ANY_ROUNDING,
        "0.0001 * (f(x).norm() + f(y).norm()) → 5e-05 * (f(x).norm() + f(y).norm())": ANY_ROUNDING,
        "0.0001 * (f(x).norm() + f(y).norm()) → 0.0001 * f(x).norm()": ANY_ROUNDING,
        "0.0001 * (f(x).norm() + f(y).norm()) → 0.0001 * f(y).norm()": ANY_ROUNDING,
        "f(x).norm() → x.norm()": ANY_ROUNDING,
        "f(y).norm() → y.norm()": ANY_ROUNDING,
        "f(x) → f(y) #2": ANY_ROUNDING,
        "f(y) → f(x) #2": ANY_ROUNDING,
    },
    "attention.split_heads": {
        "x.unflatten(-1, (n_heads, -1)).transpose(1, 2) → "
        "x.unflatten(-1, (n_heads, -1)).transpose(1, -2)": FOUR_AXES,
    },
    "attention.merge_heads": {
        "x.transpose(1, 2).flatten(-2) → x.transpose(1, 2).flatten(2)": FOUR_AXES,
        "x.transpose(1, 2) → x.transpose(1, -2)": FOUR_AXES,
    },
    "attention.attention_weights": {
        "return softmax(scores, dim=-1) → return softmax(scores)": "-1 is the default",
        "query.shape[-1] → key.shape[-1]": "queries and keys have the same size",
    },
    "positions.permutation_error": {
        "(layer(x[:, order]) - layer(x)[:, order]).abs() → "
        "(layer(x)[:, order] - layer(x[:, order])).abs()": BOTH_WAYS,
    },
    "positions.sinusoidal_positions": {
        "torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2) → "
        "torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)": THREE_AXES,
    },
    "positions.shift_matrix": {
        "torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2)) → "
        "torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(1, (2, 2))": A_MATRIX,
        "torch.stack((cosines, -sines, sines, cosines), dim=-1) → "
        "torch.stack((cosines, -sines, sines, cosines), dim=1)": A_MATRIX,
    },
    "positions.relative_bias": {
        "torch.arange(n_query)[:, None] - torch.arange(n_key)[None, :] → "
        "torch.arange(n_query)[:, None] - torch.arange(n_key)": A_ROW,
        "torch.arange(n_key)[None, :] → torch.arange(n_key)[:,]": A_ROW,
        "torch.arange(n_key)[None, :] → torch.arange(n_key)[None,]": A_ROW,
    },
    "encoder.mean_pool": {
        "kept = keep[..., None].to(x.dtype) → kept = keep[..., None].to()": TRUE_IS_ONE,
        "kept = keep[..., None].to(x.dtype) → kept = keep[..., None]": TRUE_IS_ONE,
        "keep[..., None].to(x.dtype) → keep[..., None].to(x)": "x.to(other) takes its dtype",
        "keep[..., None].to(x.dtype) → keep[..., None].to(keep.dtype)": TRUE_IS_ONE,
    },
    "decoder.GPT": {
        "ids.shape[1] → ids.shape[-1]": TWO_AXES,
    },
    "training.Scalar": {
        "Scalar(self.value + other.value, (self, other), (1.0, 1.0)) → "
        "Scalar(self.value + other.value, (other, self), (1.0, 1.0))": "both slopes of a sum are 1",
    },
    "decoder.Seq2Seq": {
        "target.shape[1] → target.shape[-1]": TWO_AXES,
        "causal_mask(target.shape[1]).to(target.device) → "
        "causal_mask(target.shape[1]).to(source.device)": ONE_DEVICE,
    },
    "training.cross_entropy": {
        "chosen = logits.gather(-1, targets[:, None])[:, 0] → "
        "chosen = logits.gather(-1, targets[:, None])": ONE_COLUMN,
        "logits.gather(-1, targets[:, None])[:, 0] → "
        "logits.gather(-1, targets[:, None])[:,]": ONE_COLUMN,
        "logits.gather(-1, targets[:, None])[:, 0] → "
        "logits.gather(-1, targets[:, None])[:, -1]": ONE_COLUMN,
        "logits.gather(-1, targets[:, None]) → logits.gather(1, targets[:, None])": A_MATRIX,
        "logits.logsumexp(-1) → logits.logsumexp(1)": A_MATRIX,
    },
    "training.init_weights": {
        "name.endswith(('w_o.weight', 'down.weight')) → "
        "name.endswith(('down.weight', 'w_o.weight'))": "either ending will do",
    },
    "training.lr_at_step": {
        "(step - warmup) / (total - warmup) → (warmup - step) / (total - warmup)": EVEN,
        "(step - warmup) / (total - warmup) → (step - warmup) / (warmup - total)": EVEN,
    },
    "training.clip_gradients": {
        "norm > max_norm → norm >= max_norm": "where they are equal the factor is 1",
    },
    "training.accumulate": {
        "for (inputs, targets), count in zip(micro_batches, counts, strict=True): → "
        "for (inputs, targets), count in zip(micro_batches, counts):": EQUAL_LENGTHS,
        "zip(micro_batches, counts, strict=True) → "
        "zip(micro_batches, counts, strict=False)": EQUAL_LENGTHS,
        "counts = [int((targets != -100).sum()) for _, targets in micro_batches] → "
        "counts = [(targets != -100).sum() for _, targets in micro_batches]": "a tensor of one "
        "number counts as well",
        "targets != -100 → targets > -100": "no other target is negative",
    },
    "training.train_step": {
        "optimiser.zero_grad() → model.zero_grad()": "the optimiser has all weights of the model",
    },
    "sampling.entropy": {
        "log_p.clamp_min(torch.finfo(log_p.dtype).min) → log_p.clamp_min(torch.finfo().min)": "any "
        "finite number does: it is multiplied with 0",
    },
    "sampling.perplexity": {
        "math.exp(training.cross_entropy(logits, targets, ignore_index).item()) → "
        "math.exp(training.cross_entropy(logits, targets, ignore_index))": "math.exp takes a "
        "tensor of one number, too",
    },
    "sampling.apply_temperature": {
        "temperature == 0 → temperature <= 0": CHECKED_BEFORE,
        "logits.argmax(-1, keepdim=True) → logits.argmax(1, keepdim=True)": LOGITS,
        "torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best)) → "
        "torch.full_like(logits, -math.inf).scatter(1, best, logits.gather(-1, best))": LOGITS,
        "torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best)) → "
        "torch.full_like(logits, -math.inf).scatter(-1, best, -1)": ONE_LEFT,
        "logits.gather(-1, best) → logits.gather(1, best)": LOGITS,
    },
    "sampling.top_k": {"logits.shape[-1] → logits.shape[1]": LOGITS},
    "sampling.top_p": {
        "torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p) → "
        "torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, before < p)": LOGITS,
        "probabilities.cumsum(-1) → probabilities.cumsum(1)": LOGITS,
        "logits.softmax(-1) → logits.softmax(1)": LOGITS,
    },
    "sampling.min_p": {
        "logits.softmax(-1) → logits.softmax(1)": LOGITS,
        "probabilities.amax(-1, keepdim=True) → probabilities.amax(1, keepdim=True)": LOGITS,
    },
    "sampling.penalise": {
        "torch.zeros_like(logits).scatter_add(1, ids, torch.ones_like(ids, dtype=logits.dtype)) → "
        "torch.zeros_like(logits)"
        ".scatter_add(-1, ids, torch.ones_like(ids, dtype=logits.dtype))": LOGITS,
        "logits > 0 → logits >= 0": "0 divided or multiplied is 0",
    },
    "sampling.generate": {
        "torch.cat((ids, chosen[:, None]), dim=1) → "
        "torch.cat((ids, chosen[:, None]), dim=-1)": TWO_AXES,
    },
    "sampling.extend_beams": {
        "log_p.shape[-1] → log_p.shape[1]": LOGITS,
        "torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), dim=1) → "
        "torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), dim=-1)": TWO_AXES,
    },
    "sampling.KVCache": {
        "start == 0 → start <= 0": "a length is never below 0",
        "rows, n_heads, _, d_head = key.shape → rows, n_heads, _, d_head = value.shape": "keys and "
        "values have one shape",
        "key.shape[2] → key.shape[-2]": "a tensor of four axes: -2 and 2 are the same one",
        "key.new_empty(rows, n_heads, self.context, d_head) → "
        "value.new_empty(rows, n_heads, self.context, d_head)": "keys and values have one dtype",
        "value.new_empty(rows, n_heads, self.context, d_head) → "
        "key.new_empty(rows, n_heads, self.context, d_head)": "keys and values have one dtype",
        "key.shape[2] → value.shape[2]": "keys and values have one shape",
    },
    "sampling.read_on": {
        "mask = decoder.causal_mask(n_new, n_all).to(ids.device) if n_new > 1 else None → "
        "mask = decoder.causal_mask(n_new, n_all).to(ids.device)": "a mask of True hides nothing",
        "decoder.causal_mask(n_new, n_all).to(ids.device) if n_new > 1 else None → "
        "decoder.causal_mask(n_new, n_all).to() if n_new > 1 else None": ONE_DEVICE,
        "decoder.causal_mask(n_new, n_all).to(ids.device) if n_new > 1 else None → "
        "decoder.causal_mask(n_new, n_all) if n_new > 1 else None": ONE_DEVICE,
        "ids.shape[1] → ids.shape[-1]": "ids has two axes: its last one is axis 1",
        "n_new > 1 → n_all > 1": "a mask of True hides nothing",
        "n_new > 1 → n_new >= 1": "a mask of True hides nothing",
        "n_new > 1 → n_new > 0": "a mask of True hides nothing",
        "n_new > 1 → n_new > -1": "a mask of True hides nothing",
        "ids.shape[1] → ids.shape[-1] #2": "ids has two axes: its last one is axis 1",
    },
    "scaling.memory_report": {
        "mode not in ('training', 'generation') → mode not in ('generation', 'training')": (
            "the order of two names to compare with is free"
        ),
        "mode == 'training' → mode >= 'training'": "of the two modes only one is not less",
    },
    "scaling.fit_power_law": {
        "torch.log(n.double()) → torch.log(n)": ANY_ROUNDING,
        "loss.double() - floor → loss - floor": ANY_ROUNDING,
        "(x - x.mean()) * (y - y.mean()) → x * (y - y.mean())": CENTRED_ONCE,
        "(x - x.mean()) * (y - y.mean()) → (x - x.mean()) * y": CENTRED_ONCE,
        "x - x.mean() → x + x.mean()": CENTRED_ONCE,
        "y - y.mean() → y + y.mean()": CENTRED_ONCE,
        "x.mean() → y.mean() #2": CENTRED_ONCE,
        "y.mean() → x.mean() #2": CENTRED_ONCE,
        "(x - x.mean()) * (y - y.mean()) → (x - x.mean()) @ (y - y.mean())": (
            "a dot product is the sum already"
        ),
        "(x - x.mean()) ** 2 → (x.mean() - x) ** 2": SQUARED,
    },
    "tokenization.bpe_encode": {"symbols = tuple(word) → symbols = word": ITS_CHARACTERS},
    "tokenization.train_bpe": {
        "pair[1] → pair[-1]": "a pair has two symbols",
        "split = {tuple(word): n_times for word, n_times in words.items()} → "
        "split = {word: n_times for word, n_times in words.items()}": ITS_CHARACTERS,
        "not ranked or -min(ranked)[0] < min_frequency → "
        "not counts or -min(ranked)[0] < min_frequency": AS_MANY_KEYS,
    },
    "tokenization.wordpiece_encode": {
        "CONTINUES if start else '' → CONTINUES if symbols else ''": BEGUN,
    },
    "interpretability.head_scores": {
        "rows.diagonal(dim1=-2, dim2=-1).mean((0, -1)) → "
        "rows.diagonal(dim1=-2, dim2=-1).mean((-1, 0))": BOTH_AXES,
        "rows[..., 0].mean((0, -1)) → rows[..., 0].mean((-1, 0))": BOTH_AXES,
        "rows.diagonal(1, dim1=-2, dim2=-1).mean((0, -1)) → "
        "rows.diagonal(1, dim1=-2, dim2=-1).mean((-1, 0))": BOTH_AXES,
        "torch.special.entr(rows).sum(-1).mean((0, -1)) → "
        "torch.special.entr(rows).sum(-1).mean((-1, 0))": BOTH_AXES,
        "rows.diagonal(dim1=-2, dim2=-1) → rows.diagonal(dim1=2, dim2=-1)": FOUR_AXES,
        "rows.diagonal(1, dim1=-2, dim2=-1) → rows.diagonal(1, dim1=2, dim2=-1)": FOUR_AXES,
    },
    "interpretability.induction_score": {
        "weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].mean((0, -1)) → "
        "weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].mean((-1, 0))": BOTH_AXES,
        "weights.diagonal(1 - period, dim1=-2, dim2=-1) → "
        "weights.diagonal(1 - period, dim1=2, dim2=-1)": FOUR_AXES,
    },
    "interpretability.fit_probe": {
        "(_with_ones(x_test) @ weights).argmax(-1) → "
        "(_with_ones(x_test) @ weights).argmax(1)": A_MATRIX,
        "nn.functional.one_hot(y_train).to(x_train.dtype) → "
        "nn.functional.one_hot(y_train).to(x_train)": "x.to(other) takes its dtype",
        "nn.functional.one_hot(y_train).to(x_train.dtype) → "
        "nn.functional.one_hot(y_train).to(x_test.dtype)": "all rows have one dtype",
        "penalty * torch.eye(x.shape[1], dtype=x.dtype) → "
        "penalty * torch.eye(x.shape[1])": DIAGONAL,
        "torch.eye(x.shape[1], dtype=x.dtype) → torch.eye(x.shape[1], dtype=y.dtype)": DIAGONAL,
        "x.shape[1] → x.shape[-1]": A_MATRIX,
    },
    "interpretability.ablate_head": {
        "heads.flatten(-2) → heads.flatten(2)": FOUR_AXES,
        "args[0] → args[-1]": "an output map has one argument",
    },
    "modern.route": {
        "best, chosen = logits.topk(k, dim=-1) → best, chosen = logits.topk(k)": LAST_ANYWAY,
        "return (chosen, attention.softmax(best, dim=-1)) → "
        "return (chosen, attention.softmax(best))": LAST_ANYWAY,
        "logits.topk(k, dim=-1) → logits.topk(k, dim=1)": LOGITS,
        "attention.softmax(best, dim=-1) → attention.softmax(best, dim=1)": LOGITS,
    },
    "modern.balance_loss": {
        "logits.shape[-1] → logits.shape[1]": LOGITS,
        "attention.softmax(logits, dim=-1).mean(0) → attention.softmax(logits).mean(0)": (
            LAST_ANYWAY
        ),
        "attention.softmax(logits, dim=-1) → attention.softmax(logits, dim=1)": LOGITS,
    },
    "inference.online_softmax_attention": {
        "total, mixed = (torch.zeros_like(largest), query.new_zeros(*query.shape[:-1], "
        "value.shape[-1])) → total, mixed = (query.new_zeros(*query.shape[:-1], "
        "value.shape[-1]), torch.zeros_like(largest))": ZEROS_ANYWAY,
        "total, mixed = (torch.zeros_like(largest), query.new_zeros(*query.shape[:-1], "
        "value.shape[-1])) → total, mixed = (torch.zeros_like(largest), "
        "query.new_zeros(value.shape[-1]))": ZEROS_ANYWAY,
        "query.new_full((*query.shape[:-1], 1), -math.inf) → "
        "query.new_full((1,), -math.inf)": ZEROS_ANYWAY,
        "query.shape[:-1] → query.shape[:0]": ZEROS_ANYWAY,
        "query.shape[:-1] → query.shape[:0] #2": ZEROS_ANYWAY,
        "query.new_full((*query.shape[:-1], 1), -math.inf) → "
        "key.new_full((*query.shape[:-1], 1), -math.inf)": ONE_DTYPE,
        "query.new_full((*query.shape[:-1], 1), -math.inf) → "
        "value.new_full((*query.shape[:-1], 1), -math.inf)": ONE_DTYPE,
        "query.new_zeros(*query.shape[:-1], value.shape[-1]) → "
        "key.new_zeros(*query.shape[:-1], value.shape[-1])": ONE_DTYPE,
        "query.new_zeros(*query.shape[:-1], value.shape[-1]) → "
        "value.new_zeros(*query.shape[:-1], value.shape[-1])": ONE_DTYPE,
        "for keys, values in zip(key.split(block, 2), value.split(block, 2), strict=True): → "
        "for keys, values in zip(key.split(block, 2), value.split(block, 2)):": EQUAL_LENGTHS,
        "zip(key.split(block, 2), value.split(block, 2), strict=True) → "
        "zip(key.split(block, 2), value.split(block, 2), strict=False)": EQUAL_LENGTHS,
        "key.split(block, 2) → key.split(block, -2)": FOUR_AXES,
        "value.split(block, 2) → value.split(block, -2)": FOUR_AXES,
        "before, largest = (largest, torch.maximum(largest, scores.amax(-1, keepdim=True))) → "
        "before, largest = (largest, torch.maximum(scores.amax(-1, keepdim=True), "
        "largest))": "a maximum does not mind the order",
        "query.shape[-1] → key.shape[-1]": "queries and keys have the same size",
    },
    "inference.leftover": {
        "missing / missing.sum() if missing.any() else target → "
        "missing / missing.sum() if missing.any() else draft": "where nothing is missing the two "
        "are equal, but for rounding",
    },
    "inference.quantise": {
        "weight.abs().amax(1, keepdim=True) → weight.abs().amax(-1, keepdim=True)": A_MATRIX,
        "scale.where(scale > 0, 1) → scale.where(scale > 0, 2)": ANY_DIVISOR,
        "scale.where(scale > 0, 1) → scale.where(scale > 0, -1)": ANY_DIVISOR,
    },
    "efficiency.mean_gradient": {
        "shares = [gradient * (n / sum(n_rows)) for gradient, n in "
        "zip(gradients, n_rows, strict=True) if n] → "
        "shares = [gradient * (n / sum(n_rows)) for gradient, n in "
        "zip(gradients, n_rows) if n]": EQUAL_LENGTHS,
        "zip(gradients, n_rows, strict=True) → zip(gradients, n_rows, strict=False)": EQUAL_LENGTHS,
    },
    "efficiency.column_then_row": {
        "pieces = zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=True) → "
        "pieces = zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1))": EQUAL_LENGTHS,
        "zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=True) → "
        "zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=False)": EQUAL_LENGTHS,
        "zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=True) → "
        "zip(up.chunk(n_parts), down.chunk(n_parts, 1), strict=True)": FIRST_ANYWAY,
        "down.chunk(n_parts, 1) → down.chunk(n_parts, -1)": A_MATRIX,
    },
    "objectives.mask_tokens": {
        "chosen = (torch.rand(ids.shape, generator=generator) < p) & ~special → "
        "chosen = ~special & (torch.rand(ids.shape, generator=generator) < p)": ORDER_OF_AND,
        "torch.rand(ids.shape, generator=generator) < p → "
        "torch.rand(ids.shape, generator=generator) <= p": NEVER_THERE,
        "fate < 0.8 → fate <= 0.8": NEVER_THERE,
        "fate < 0.9 → fate <= 0.9": NEVER_THERE,
        "fate < 0.9 → fate >= 0.9": "another tenth is drawn, and the rest stays",
        "torch.rand(ids.shape, generator=generator) → "
        "torch.rand(special.shape, generator=generator)": SAME_SHAPE,
        "torch.rand(ids.shape, generator=generator) → "
        "torch.rand(special.shape, generator=generator) #2": SAME_SHAPE,
        "torch.randint(n_vocabulary, ids.shape, generator=generator) → "
        "torch.randint(n_vocabulary, special.shape, generator=generator)": SAME_SHAPE,
    },
    "objectives.attention_pool": {
        "asking = query.expand(len(x), 1, -1) → asking = query.expand(1, -1)": SAME_QUERY,
        "asking = query.expand(len(x), 1, -1) → asking = query.expand(len(x), -1)": SAME_QUERY,
        "asking = query.expand(len(x), 1, -1) → asking = query.expand(1, len(x), -1)": SAME_QUERY,
        "query.expand(len(x), 1, -1) → query.expand(len(x), 2, -1)": SAME_QUERY,
        "len(x) → len(mask)": "there are as many rows of the mask as texts",
        "attention.scaled_dot_product_attention(asking, x, x, mask[:, None])[:, 0] → "
        "attention.scaled_dot_product_attention(asking, x, x, mask[:, None])[:, -1]": SAME_QUERY,
    },
    "objectives.info_nce": {
        "projection.dot_and_cosine(a, b)[1] → projection.dot_and_cosine(b, a)[1]": BOTH_WAYS,
        "projection.dot_and_cosine(a, b)[1] → projection.dot_and_cosine(a, b)[-1]": "of two "
        "results the second is the last",
        "len(a) → len(b)": "every row has a partner, so there are as many of both",
    },
}
"""For each part the mutants that are right as well, and why. "#2" is the second of its kind."""


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Every mutant of a function, or of a class's `forward`: what was changed, and the source."""
    tree = edits.OneConstant().visit(ast.parse(source))
    definition = _definition(tree)
    variables = edits.variables(definition)
    seen, changes = {ast.unparse(tree)}, Counter[str]()
    for place in list(edits.places(definition)):
        node, around = place.get(), place.around
        before = ast.unparse(around)
        for replacement in accidents(node, variables):
            place.put(replacement)
            mutant, after = ast.unparse(tree), ast.unparse(around)
            place.put(node)
            if mutant not in seen:
                seen.add(mutant)
                change = _change(before, after)
                changes[change] += 1
                yield f"{change} #{changes[change]}".removesuffix(" #1"), mutant


def _definition(tree: ast.Module) -> ast.FunctionDef:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    named_forward = [function for function in functions if function.name == "forward"]
    others = [function for function in functions if function.name != "__init__"]
    return (named_forward or others)[0]


def _change(before: str, after: str) -> str:
    """The lines that differ, before and after."""
    old_lines, new_lines = before.splitlines(), after.splitlines()
    while old_lines and new_lines and old_lines[0] == new_lines[0]:
        del old_lines[0], new_lines[0]
    while old_lines and new_lines and old_lines[-1] == new_lines[-1]:
        del old_lines[-1], new_lines[-1]
    old, new = ("; ".join(line.strip() for line in lines) for lines in (old_lines, new_lines))
    return f"{old or 'nothing'} → {new or 'nothing'}"


# --- which get through ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the mutants of one part. `stale` are listed as equivalent and are not."""

    part: str
    mutants: int
    equivalent: tuple[str, ...]
    survivors: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def refused(self) -> int:
        return self.mutants - len(self.equivalent) - len(self.survivors)

    @property
    def share_refused(self) -> float:
        """Share of the mutants that are not equivalent which the check refuses."""
        return self.refused / (self.refused + len(self.survivors))


def examine(exercise: Exercise) -> Result:
    """Check every mutant of the exercise's reference."""
    known = EQUIVALENT.get(exercise.part, {})
    all_mutants = list(mutants(parts.reference_source(exercise.part)))
    accepted = [change for change, source in all_mutants if is_accepted(exercise, source)]
    return Result(
        exercise.part,
        len(all_mutants),
        tuple(change for change in accepted if change in known),
        tuple(change for change in accepted if change not in known),
        tuple(change for change in known if change not in accepted),
    )


def is_accepted(exercise: Exercise, source: str) -> bool:
    """Whether the check takes this source of a part for right."""
    unnamed = dataclasses.replace(exercise, mistakes=())  # naming mistakes takes time
    namespace = dict(parts.namespace(exercise.part))
    try:
        with time_limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(source, "mutant", "exec"), namespace)
            return check(unnamed, namespace[exercise.name]).state == "right"
    except (Exception, TooSlow):
        return False


def main() -> None:
    """Print what became of the mutants of every part, or of the parts that are named."""
    torch.set_num_threads(1)  # small tensors: a second thread only waits
    print(f"{'part':42} mutants  refused  equivalent  survivors")
    for exercise in exercises.all_exercises():
        if sys.argv[1:] and exercise.part not in sys.argv[1:]:
            continue
        result = examine(exercise)
        counts = result.mutants, result.refused, len(result.equivalent), len(result.survivors)
        print("{:42} {:7}  {:7}  {:10}  {:9}".format(result.part, *counts))
        print("".join(f"    {change}\n" for change in result.survivors), end="")
        print("".join(f"    not equivalent: {change}\n" for change in result.stale), end="")


if __name__ == "__main__":
    main()
