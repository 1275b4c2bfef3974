"""Answers for the parts of `training` that a check once got wrong: faults it missed, right ones."""

import math

import pytest
import torch
from torch import nn

from course_utils import exercises, training
from course_utils.engine.check import check
from course_utils.engine.verdict import Verdict


def verdict_on(answer) -> Verdict:
    """What is said of an answer that has the name of its part."""
    return check(exercises.find(f"training.{answer.__name__}"), answer)


# --- the first weights ---------------------------------------------------------------------------


def test_a_table_is_no_bias_because_of_its_name():
    def init_weights(model, n_layers):
        training.init_weights(model, n_layers)
        for name, weight in model.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)

    assert verdict_on(init_weights).mistake == "zeroes_names_with_bias"


def test_a_gain_is_no_bias_because_of_its_name():
    def init_weights(model, n_layers):
        training.init_weights(model, n_layers)
        for name, weight in model.named_parameters():
            if weight.ndim == 1 and "bias" in name:
                weight.data.fill_(0)

    assert verdict_on(init_weights).mistake == "zeroes_vectors_with_bias"


@pytest.mark.parametrize("seed", [0, 42])
def test_two_models_are_not_alike(seed):
    def init_weights(model, n_layers):
        torch.manual_seed(seed)
        training.init_weights(model, n_layers)

    assert verdict_on(init_weights).mistake == "own_seed"


def test_tables_outside_the_usual_modules_are_filled():
    def init_weights(model, n_layers):
        for path, module in model.named_modules():
            if isinstance(module, nn.Linear):
                writes = path.endswith(("w_o", "down"))
                std = 0.02 / math.sqrt(2 * n_layers) if writes else 0.02
                module.weight.data.normal_(std=std)
                if module.bias is not None:
                    module.bias.data.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.data.normal_(std=0.02)

    assert verdict_on(init_weights).mistake == "other_modules_left"


def test_whoever_holds_the_weights_sees_the_new_ones():
    def init_weights(model, n_layers):
        held = [weight.data for weight in model.parameters()]
        training.init_weights(model, n_layers)
        for weight, old in zip(model.parameters(), held, strict=True):
            weight.data = old.clone()

    assert "puts new tensors" in verdict_on(init_weights).headline


# --- the learning rate ---------------------------------------------------------------------------


def test_a_rate_counted_in_float32_is_right():
    def lr_at_step(step, peak, warmup, total, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        if step >= total:
            return floor
        angle = torch.tensor(math.pi) * (step - warmup) / (total - warmup)
        return floor + (peak - floor) * (1 + torch.cos(angle).item()) / 2

    assert verdict_on(lr_at_step).state == "right"


# --- clipping ------------------------------------------------------------------------------------


def _clip_with(length, scale):
    def clip_gradients(parameters, max_norm):
        parameters = [one for one in parameters if one.grad is not None]
        norm = length([one.grad for one in parameters])
        if norm > max_norm:
            for one in parameters:
                scale(one, max_norm / norm)
        return float(norm)

    return clip_gradients


def _right_length(gradients):
    return sum(gradient.norm().item() ** 2 for gradient in gradients) ** 0.5


def _in_place(parameter, factor):
    parameter.grad *= factor


def _put(parameter, factor):
    parameter.grad = parameter.grad * factor


def test_a_new_tensor_in_grad_is_refused():
    verdict = verdict_on(_clip_with(_right_length, _put))
    assert verdict.mistake == "new_gradients"
    assert "new tensor into `grad`" in verdict.headline


@pytest.mark.parametrize(
    "scale",
    [_in_place, lambda one, factor: one.grad.copy_(one.grad * factor)],
    ids=["times", "copy"],
)
def test_any_way_in_place_is_right(scale):
    assert verdict_on(_clip_with(_right_length, scale)).state == "right"


@pytest.mark.parametrize(
    "length",
    [
        lambda gradients: torch.sqrt(sum(one.square().sum() for one in gradients)),
        lambda gradients: sum(one.square().sum() for one in gradients).sqrt(),
        lambda gradients: (sum(one.square().sum() for one in gradients) ** 0.5).item(),
        lambda gradients: torch.stack([one.norm() for one in gradients]).norm(),
    ],
    ids=["sqrt of an int", "int without sqrt", "float without item", "stack of nothing"],
)
def test_the_root_of_no_gradients_is_named(length):
    verdict = verdict_on(_clip_with(length, _in_place))
    assert verdict.mistake == "crashes_without_any"
    assert "No parameter has a gradient" in verdict.headline


def test_headline_and_mistake_speak_of_one_fault():
    """A second loop over a generator is seen before the root of no gradients at all."""

    def clip_gradients(parameters, max_norm):
        norm = torch.sqrt(
            sum(one.grad.square().sum() for one in parameters if one.grad is not None)
        )
        for one in parameters:
            if one.grad is not None and norm > max_norm:
                one.grad.mul_(max_norm / norm)
        return norm.item()

    verdict = verdict_on(clip_gradients)
    assert (verdict.mistake, verdict.case[:11]) == ("loops_a_generator_twice", "a generator")


# --- micro-batches -------------------------------------------------------------------------------


def _mean_loss(model, micro_batches, loss_fn, skips):
    """As `accumulate`; `skips` says of the number of targets that count whether to go on."""
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    total = 0.0
    for (ids, targets), count in zip(micro_batches, counts, strict=True):
        loss = loss_fn(model(ids), targets) * count / sum(counts)
        if skips(count):
            continue
        loss.backward()
        total += loss.item()
    return total


def test_a_micro_batch_without_targets_is_left_out():
    def accumulate(model, micro_batches, loss_fn):
        return _mean_loss(model, micro_batches, loss_fn, skips=lambda count: False)

    verdict = verdict_on(accumulate)
    assert (verdict.mistake, "NaN" in verdict.headline) == ("mean_over_no_target", True)


def test_a_micro_batch_without_targets_may_be_read():
    def accumulate(model, micro_batches, loss_fn):
        return _mean_loss(model, micro_batches, loss_fn, skips=lambda count: count == 0)

    assert verdict_on(accumulate).state == "right"


def _glued(batches):
    return tuple(torch.cat(each) for each in zip(*batches, strict=True))


@pytest.mark.parametrize("n_pieces", [1, 2])
def test_micro_batches_are_not_glued(n_pieces):
    def accumulate(model, micro_batches, loss_fn):
        if len(micro_batches) > n_pieces:
            first, others = micro_batches[: n_pieces - 1], micro_batches[n_pieces - 1 :]
            micro_batches = [*first, _glued(others)]
        return training.accumulate(model, micro_batches, loss_fn)

    assert "several micro-batches at once" in verdict_on(accumulate).headline


def test_a_micro_batch_may_be_cut_further():
    def accumulate(model, micro_batches, loss_fn):
        rows = [
            (ids[i : i + 1], targets[i : i + 1])
            for ids, targets in micro_batches
            for i in range(len(ids))
        ]
        return training.accumulate(model, rows, loss_fn)

    assert verdict_on(accumulate).state == "right"


# --- the step ------------------------------------------------------------------------------------


def _step_with(clear, clip):
    def train_step(model, micro_batches, optimiser, max_norm):
        clear(model, optimiser)
        loss = training.accumulate(model, micro_batches, training.cross_entropy)
        norm = clip(model, optimiser, max_norm)
        optimiser.step()
        return loss, norm

    return train_step


def _clear(model, optimiser):
    optimiser.zero_grad()


def _clip(model, optimiser, max_norm):
    return training.clip_gradients(model.parameters(), max_norm)


def test_weights_of_all_groups_are_clipped():
    def clip(model, optimiser, max_norm):
        return training.clip_gradients(optimiser.param_groups[0]["params"], max_norm)

    assert verdict_on(_step_with(_clear, clip)).mistake == "clips_first_group_only"


def test_groups_are_clipped_together():
    def clip(model, optimiser, max_norm):
        groups = (group["params"] for group in optimiser.param_groups)
        return math.hypot(*(training.clip_gradients(group, max_norm) for group in groups))

    assert verdict_on(_step_with(_clear, clip)).mistake == "clips_each_group"


def test_the_gradients_of_all_groups_are_cleared():
    def clear(model, optimiser):
        for weight in optimiser.param_groups[0]["params"]:
            weight.grad = None

    assert verdict_on(_step_with(clear, _clip)).state == "wrong"


def test_the_first_step_finds_no_gradients():
    def clear(model, optimiser):
        for weight in model.parameters():
            weight.grad.zero_()

    assert verdict_on(_step_with(clear, _clip)).mistake == "fills_with_zeros_by_hand"


def test_a_step_does_not_glue_its_micro_batches():
    def train_step(model, micro_batches, optimiser, max_norm):
        return training.train_step(model, [_glued(micro_batches)], optimiser, max_norm)

    assert "several micro-batches at once" in verdict_on(train_step).headline


# --- dtypes --------------------------------------------------------------------------------------


def test_half_precision_needs_numbers_that_it_can_hold():
    def cross_entropy(logits, targets, ignore_index=-100):
        counted = targets != ignore_index
        log_p, targets = logits[counted].log_softmax(-1), targets[counted]
        others = torch.arange(logits.shape[-1]) != targets[:, None]
        return -log_p.masked_fill(others, -1e9).amax(-1).mean()

    assert verdict_on(cross_entropy).case == "float16"


def test_whoever_computes_in_float32_is_told_so():
    def cross_entropy(logits, targets, ignore_index=-100):
        return training.cross_entropy(logits.float(), targets, ignore_index).to(logits.dtype)

    def attention_score_grad(weights, weights_grad):
        found = training.attention_score_grad(weights.float(), weights_grad.float())
        return found.to(weights.dtype)

    for answer in (cross_entropy, attention_score_grad):
        verdict = verdict_on(answer)
        assert (verdict.case, verdict.mistake) == ("float64", "computes_in_float32")


def test_half_precision_may_be_computed_in_float32():
    def cross_entropy(logits, targets, ignore_index=-100):
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return training.cross_entropy(wide, targets, ignore_index).to(logits.dtype)

    assert verdict_on(cross_entropy).state == "right"
