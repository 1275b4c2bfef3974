"""Exercises of notebook 04: the order of the tokens, as sinusoids, as a bias and as a rotation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake

# --- permutation_error ---------------------------------------------------------------------------

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Named:
    """A layer that is shown as what it does to a token."""

    says: str
    rule: Layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.rule(x)

    def __repr__(self) -> str:
        return self.says


def _largest_difference_by_loops(layer: Layer, x: Tensor, order: Tensor) -> float:
    """Token `order[place]` of the answer is what the shuffled answer should have at `place`."""
    answers, shuffled = (layer(given).tolist() for given in (x, x[:, order]))
    return max(
        abs(one - other)
        for answer, after in zip(answers, shuffled, strict=True)
        for place, source in enumerate(order.tolist())
        for one, other in zip(answer[source], after[place], strict=True)
    )


RUNNING_SUM = _Named("the sum of the tokens up to this one", lambda x: x.cumsum(1))
PLUS_MEAN = _Named("the token plus the mean of all tokens", lambda x: x + x.mean(1, keepdim=True))
MINUS_PREVIOUS = _Named("the token minus the one before it", lambda x: x - x.roll(1, 1))


def _wider_sums(x: Tensor) -> Tensor:
    """Six features from three, of the sum of the tokens up to this one."""
    return x.cumsum(1) @ inputs.normal(3, 6, seed=5, dtype=x.dtype)


def _falls_with_place(x: Tensor) -> Tensor:
    """Its first answer is raised a little when tokens are shuffled, its last is lowered a lot."""
    places = torch.arange(x.shape[1], dtype=x.dtype)
    return x - 10 * places.square()[:, None] * x.abs()


def _permutation_error_cases() -> list[Case]:
    def case(title: str, layer: Layer, x: Tensor, order: list[int]) -> Case:
        arguments = {"layer": layer, "x": x, "order": torch.tensor(order)}
        return Case(title, arguments, _largest_difference_by_loops)

    def random(*shape: int, seed: int = 0) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=torch.float64)

    small = torch.tensor([[[1.0], [2.0], [4.0]]])
    same_tokens = torch.cat((torch.ones(1, 4, 3), inputs.normal(1, 4, 3))).double()
    falls = _Named("the token, lowered more at later places", _falls_with_place)
    one_way = torch.tensor([[[3.0], [0.0], [0.0], [1.0]]])
    return [
        case("three tokens move, and a layer adds up", RUNNING_SUM, small, [1, 2, 0]),
        case("a layer that does not know the order", PLUS_MEAN, random(2, 5, 3), [3, 0, 4, 2, 1]),
        case("a layer that does", MINUS_PREVIOUS, random(2, 5, 3), [3, 0, 4, 2, 1]),
        case("the largest difference is negative", falls, one_way, [1, 2, 3, 0]),
        case("the largest difference is positive", falls, one_way, [3, 0, 1, 2]),
        case("a wider answer", _Named("six sums", _wider_sums), random(3, 4, 3), [2, 3, 1, 0]),
        case("only one sentence changes", RUNNING_SUM, same_tokens, [1, 2, 3, 0]),
        case("as many tokens as features", RUNNING_SUM, random(2, 4, 4), [2, 0, 3, 1]),
        case("as many tokens as sentences", RUNNING_SUM, random(4, 4, 2), [2, 0, 3, 1]),
        case("nothing moves", RUNNING_SUM, random(2, 4, 3), [0, 1, 2, 3]),
        case("one token", MINUS_PREVIOUS, random(2, 1, 3), [0]),
        case("large numbers", RUNNING_SUM, 1000 * random(2, 4, 3), [2, 0, 3, 1]),
        case("a transposed view", RUNNING_SUM, random(2, 3, 5).mT, [3, 0, 4, 2, 1]),
    ]


def _permutes_only_input(layer, x, order):
    return (layer(x[:, order]) - layer(x)).abs().max().item()


def _permutes_only_output(layer, x, order):
    return (layer(x)[:, order] - layer(x)).abs().max().item()


def _permutes_features(layer, x, order):
    return (layer(x[..., order]) - layer(x)[..., order]).abs().max().item()


def _permutes_batch(layer, x, order):
    return (layer(x[order]) - layer(x)[order]).abs().max().item()


def _shuffles_again(layer, x, order):
    return (layer(x[:, order])[:, order] - layer(x)).abs().max().item()


def _compares_means(layer, x, order):
    return (layer(x[:, order]).mean() - layer(x).mean()).abs().item()


def _mean_difference(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).abs().mean().item()


def _norm_of_difference(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).norm().item()


def _forgot_abs(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).max().item()


def _returns_tensor(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max()


def _says_whether_equal(layer, x, order):
    return torch.allclose(layer(x[:, order]), layer(x)[:, order])


def _error_by_shuffling_back(layer, x, order):
    back = layer(x[:, order])[:, order.argsort()]
    return torch.dist(back, layer(x), p=math.inf).item()


def _error_by_permutation_matrix(layer, x, order):
    matrix = F.one_hot(order, len(order)).to(x.dtype)
    gap = (layer(matrix @ x) - matrix @ layer(x)).detach()
    return max(gap.amax().item(), -gap.amin().item())


def _error_by_index_select(layer, x, order):
    before, after = layer(x.index_select(1, order)), layer(x).index_select(1, order)
    return torch.linalg.vector_norm((before - after).double(), ord=math.inf).item()


PERMUTATION_ERROR = Exercise(
    part="positions.permutation_error",
    notebook="04",
    used_by="the experiments of this notebook that ask whether a layer knows the order",
    cases=_permutation_error_cases,
    hints=(
        "There are two ways to a shuffled answer: shuffle the tokens and then use the layer, or "
        "use the layer and then shuffle its answer. Compare the two.",
        "Tokens are on axis 1. `x[:, order]` has token `order[0]` first, then token `order[1]`, "
        "and so on. A layer's answer is shuffled in the same way.",
        "Take the difference of the two answers, its `.abs()`, its `.max()`, and make a Python "
        "number of it with `.item()`.",
    ),
    mistakes=(
        Mistake(
            "permutes_only_input",
            "You shuffle the tokens and compare with the answer in the old order, so every token "
            "is compared with another one. Shuffle the second answer as well: `layer(x)[:, "
            "order]`.",
            _permutes_only_input,
        ),
        Mistake(
            "permutes_only_output",
            "You give the layer the tokens in the old order both times, so it never sees them "
            "shuffled. One of the two answers is `layer(x[:, order])`.",
            _permutes_only_output,
        ),
        Mistake(
            "permutes_features",
            "You shuffle the last axis: the numbers inside a vector. Tokens are on axis 1: "
            "`x[:, order]`.",
            _permutes_features,
        ),
        Mistake(
            "permutes_batch",
            "You shuffle axis 0: whole sentences change places, and every layer treats those "
            "alike. Tokens are on axis 1: `x[:, order]`.",
            _permutes_batch,
        ),
        Mistake(
            "shuffles_again",
            "You use `order` a second time to undo it. That shuffles once more. Undoing takes the "
            "inverse, `order.argsort()`; or shuffle the other answer, `layer(x)[:, order]`.",
            _shuffles_again,
        ),
        Mistake(
            "compares_means",
            "You average each answer first. A mean over the tokens is the same in any order, so "
            "the differences you look for are gone. Subtract first, number by number.",
            _compares_means,
        ),
        Mistake(
            "mean_difference",
            "You take the mean of the differences. One token that is far off would hide among many "
            "that are right: take the largest, `.max()`.",
            _mean_difference,
        ),
        Mistake(
            "norm_of_difference",
            "You take the norm of the differences, which grows with their number, so layers cannot "
            "be compared. Take the largest: `.abs().max()`.",
            _norm_of_difference,
        ),
        Mistake(
            "forgot_abs",
            "You take the largest difference with its sign, so one of -5 counts for less than one "
            "of 0. Take `.abs()` before `.max()`.",
            _forgot_abs,
        ),
        Mistake(
            "returns_tensor",
            "You return a tensor with one number in it. The result should be a Python number: put "
            "`.item()` behind it.",
            _returns_tensor,
        ),
        Mistake(
            "says_whether_equal",
            "You return True or False. How large the difference is tells more: return the largest "
            "absolute difference.",
            _says_whether_equal,
        ),
    ),
    alternatives=(_error_by_shuffling_back, _error_by_permutation_matrix, _error_by_index_select),
)

# --- sinusoidal_positions ------------------------------------------------------------------------


def _sinusoids_one_by_one(n_tokens: int, d_model: int, base: float = 10000.0) -> Tensor:
    """The formula of the paper, for one number at a time."""
    rows = [
        [
            (math.cos if feature % 2 else math.sin)(token / base ** (feature // 2 * 2 / d_model))
            for feature in range(d_model)
        ]
        for token in range(n_tokens)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def _sinusoidal_positions_cases() -> list[Case]:
    def case(title: str, n_tokens: int, d_model: int, **base: float) -> Case:
        arguments = {"n_tokens": n_tokens, "d_model": d_model, **base}
        shown = ", ".join(f"{name}={value:g}" for name, value in arguments.items())
        return Case(title, arguments, _sinusoids_one_by_one, shown=f"sinusoidal_positions({shown})")

    return [
        case("three places, two frequencies", 3, 4, base=100.0),
        case("more features", 5, 8),
        case("three frequencies", 10, 6),
        case("another base", 7, 10, base=50.0),
        case("as many places as features", 6, 6, base=20.0),
        case("one frequency", 9, 2),
        case("one place", 1, 8),
        case("many places", 50, 12),
    ]


def _frequencies(d_model: int, base: float) -> Tensor:
    return base ** (-torch.arange(0, d_model, 2) / d_model)


def _side_by_side(angles: Tensor) -> Tensor:
    """Sine, cosine, sine, cosine …"""
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def _sin_only(n_tokens, d_model, base=10000.0):
    frequencies = _frequencies(d_model, base).repeat_interleave(2)
    return (torch.arange(n_tokens)[:, None] * frequencies).sin()


def _exponent_i_over_d(n_tokens, d_model, base=10000.0):
    frequencies = base ** (-torch.arange(d_model // 2) / d_model)
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


def _exponent_doubled(n_tokens, d_model, base=10000.0):
    frequencies = base ** (-2 * torch.arange(0, d_model, 2) / d_model)
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


def _frequency_for_each_feature(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * base ** (-torch.arange(d_model) / d_model)
    return torch.stack((angles[:, ::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(-2)


def _blocks(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * _frequencies(d_model, base)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def _degrees(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * _frequencies(d_model, base)
    return _side_by_side(angles.rad2deg())


def _cosine_first(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * _frequencies(d_model, base)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(-2)


def _base_ignored(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(n_tokens)[:, None] * _frequencies(d_model, 10000.0))


def _counts_from_one(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(1, n_tokens + 1)[:, None] * _frequencies(d_model, base))


def _frequencies_rise(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(n_tokens)[:, None] / _frequencies(d_model, base))


def _sinusoids_in_strides(n_tokens, d_model, base=10000.0):
    positions = torch.zeros(n_tokens, d_model)
    steps = torch.arange(0, d_model, 2).float()
    angles = torch.arange(n_tokens).unsqueeze(1) * torch.exp(-math.log(base) * steps / d_model)
    positions[:, 0::2] = torch.sin(angles)
    positions[:, 1::2] = torch.cos(angles)
    return positions


def _sinusoids_by_phase(n_tokens, d_model, base=10000.0):
    """A cosine is a sine that began a quarter of a turn earlier."""
    feature = torch.arange(d_model)
    exponents = feature.div(2, rounding_mode="floor") * 2 / d_model
    return torch.sin(torch.arange(n_tokens)[:, None] / base**exponents + feature % 2 * math.pi / 2)


def _sinusoids_by_complex_numbers(n_tokens, d_model, base=10000.0):
    angles = torch.outer(torch.arange(n_tokens), _frequencies(d_model, base))
    return torch.view_as_real(torch.polar(torch.ones_like(angles), angles)).flip(-1).flatten(1)


def _sinusoids_in_numpy(n_tokens, d_model, base=10000.0):
    angles = np.arange(n_tokens)[:, None] / np.power(base, np.arange(0, d_model, 2) / d_model)
    both = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return torch.from_numpy(both.reshape(n_tokens, d_model)).float()


SINUSOIDAL_POSITIONS = Exercise(
    part="positions.sinusoidal_positions",
    notebook="04",
    used_by="`SinusoidalPositions`, the layer that adds them to the tokens",
    cases=_sinusoidal_positions_cases,
    hints=(
        "Each pair of features is the hand of a clock. Hand i turns by base^(-2i / d_model) a "
        "token: 1 for i = 0, and less and less for the others.",
        "Two steps: the angle of every hand at every place, [tokens, d_model/2], then its sine and "
        "its cosine, side by side: sin, cos, sin, cos …",
        "`torch.arange(0, d_model, 2)` gives all the 2i, and `torch.arange(n_tokens)[:, None] * "
        "frequencies` all angles.",
        "`torch.stack((angles.sin(), angles.cos()), dim=-1)` puts each sine beside its cosine. "
        "`flatten(-2)` makes one axis of the last two.",
    ),
    mistakes=(
        Mistake(
            "sin_only",
            "You use sines only. A sine alone cannot say whether its hand goes up or down, and a "
            "shift is no longer a rotation. Features 1, 3, 5 … are cosines.",
            _sin_only,
        ),
        Mistake(
            "exponent_i_over_d",
            "Your exponent is i / d_model, and it should be 2i / d_model. So your frequencies end "
            "halfway, and the slowest hands are missing.",
            _exponent_i_over_d,
        ),
        Mistake(
            "exponent_doubled",
            "Your exponent is 4i / d_model. `torch.arange(0, d_model, 2)` already counts 0, 2, 4 "
            "…, so it must not be doubled once more.",
            _exponent_doubled,
        ),
        Mistake(
            "frequency_for_each_feature",
            "Every feature has a frequency of its own, so a sine and the cosine beside it belong "
            "to different hands. Features 2i and 2i + 1 share the frequency base^(-2i / d_model).",
            _frequency_for_each_feature,
        ),
        Mistake(
            "blocks",
            "First all sines, then all cosines: a legal other layout, which many programs use. "
            "Here sines and cosines take turns, as in the paper: stack them on a new last axis, "
            "then flatten.",
            _blocks,
        ),
        Mistake(
            "degrees",
            "You turn the angles into degrees. `sin` and `cos` take radians: use the angles as "
            "they are.",
            _degrees,
        ),
        Mistake(
            "cosine_first",
            "Your cosines come first. Features 0, 2, 4 … are sines and 1, 3, 5 … are cosines, so "
            "place 0 is 0, 1, 0, 1 …",
            _cosine_first,
        ),
        Mistake(
            "base_ignored",
            "You use 10000 where it should say `base`. The default is 10000, but the caller may "
            "want another one.",
            _base_ignored,
        ),
        Mistake(
            "counts_from_one",
            "Your first place is 1. Places are counted from 0, where all hands stand at angle 0: "
            "the first row is 0, 1, 0, 1 …",
            _counts_from_one,
        ),
        Mistake(
            "frequencies_rise",
            "Your hands get faster instead of slower: the sign of the exponent is wrong. "
            "Frequencies fall from 1 towards 1 / base.",
            _frequencies_rise,
        ),
    ),
    alternatives=(
        _sinusoids_in_strides,
        _sinusoids_by_phase,
        _sinusoids_by_complex_numbers,
        _sinusoids_in_numpy,
    ),
)

# --- add_positions -------------------------------------------------------------------------------


def _added_token_by_token(x: Tensor, positions: Tensor) -> Tensor:
    sequences = [
        torch.stack([vector + positions[place] for place, vector in enumerate(sequence)])
        for sequence in x
    ]
    return torch.stack(sequences)


def _add_positions_cases() -> list[Case]:
    def case(title: str, x: Tensor, positions: Tensor) -> Case:
        return Case(title, {"x": x, "positions": positions}, _added_token_by_token)

    def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=dtype)

    tokens = torch.tensor([[[1.0, 2.0], [1.0, 2.0], [5.0, 0.0]]])
    rows = torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    double, half = torch.float64, torch.bfloat16
    return [
        case("three tokens, positions for four", tokens, rows),
        case("a batch of sentences", random(2, 4, 3), random(6, 3, seed=1)),
        case("as many tokens as positions", random(2, 5, 3), random(5, 3, seed=1)),
        case("as many sentences as tokens", random(4, 4, 3), random(7, 3, seed=1)),
        case("as many tokens as features", random(2, 3, 3), random(3, 3, seed=1)),
        case("one token", random(3, 1, 4), random(5, 4, seed=1)),
        case("one sentence", random(1, 4, 3), random(6, 3, seed=1)),
        case("transposed views", random(2, 3, 4).mT, random(3, 5, seed=1).T),
        case("float64", random(2, 4, 3, dtype=double), random(6, 3, seed=1, dtype=double)),
        case("bfloat16", random(2, 4, 3, dtype=half), random(6, 3, seed=1, dtype=half)),
    ]


def _batch_axis(x, positions):
    return x + positions[: x.shape[0]]


def _broadcast_to_ttd(x, positions):
    return x + positions[: x.shape[1]].unsqueeze(1)


def _concatenates(x, positions):
    rows = positions[: x.shape[1]].expand(len(x), -1, -1)
    return torch.cat((x, rows), dim=-1)


def _adds_all_rows(x, positions):
    return x + positions


def _last_rows(x, positions):
    return x + positions[-x.shape[1] :]


def _same_row_for_all(x, positions):
    return x + positions[0]


def _row_of_the_length(x, positions):
    return x + positions[x.shape[1]]


def _feature_axis(x, positions):
    return x + positions[: x.shape[-1]]


def _adds_index(x, positions):
    return x + torch.arange(x.shape[1])[:, None]


def _multiplies(x, positions):
    return x * positions[: x.shape[1]]


def _scales_too(x, positions):
    return x * math.sqrt(x.shape[-1]) + positions[: x.shape[1]]


def _in_place(x, positions):
    x += positions[: x.shape[1]]
    return x


def _detached(x, positions):
    return x + positions[: x.shape[1]].detach()


def _positions_by_embedding(x, positions):
    return x + F.embedding(torch.arange(x.shape[1]), positions)


def _positions_expanded(x, positions):
    batch, tokens, _ = x.shape
    return x.add(positions[:tokens, :].unsqueeze(0).expand(batch, -1, -1))


def _positions_token_by_token(x, positions):
    return torch.stack([x[:, t] + positions[t] for t in range(x.shape[1])], dim=1)


ADD_POSITIONS = Exercise(
    part="positions.add_positions",
    notebook="04",
    used_by="`SinusoidalPositions` and `LearnedPositions`, and so by the GPT of this course",
    cases=_add_positions_cases,
    hints=(
        "Token 0 of every sentence gets row 0, token 1 gets row 1, and so on. All sentences get "
        "the same rows.",
        "There may be more rows than tokens: take as many as there are tokens, the first ones. "
        "How many that is stands in `x.shape[1]`.",
        "[batch, tokens, d_model] plus [tokens, d_model]: axes are compared from the last one, so "
        "the rows are repeated for every sentence. A plain `+` does it.",
    ),
    mistakes=(
        Mistake(
            "batch_axis",
            "You take as many rows as there are sentences. Axis 0 of `x` is the batch; tokens are "
            "on axis 1: `positions[: x.shape[1]]`.",
            _batch_axis,
        ),
        Mistake(
            "broadcast_to_ttd",
            "Your rows have the shape [tokens, 1, d_model], so they meet the sentences and not the "
            "tokens; a single sentence becomes [tokens, tokens, d_model]. Leave out the axis, or "
            "put it in front.",
            _broadcast_to_ttd,
        ),
        Mistake(
            "concatenates",
            "You put the positions behind the features, so every vector gets twice as wide and "
            "fits no other layer. Add them: `+`.",
            _concatenates,
        ),
        Mistake(
            "adds_all_rows",
            "You add all rows, and there are more of them than tokens. Take the first ones: "
            "`positions[: x.shape[1]]`.",
            _adds_all_rows,
        ),
        Mistake(
            "last_rows",
            "You take the last rows, so a short sentence starts somewhere in the middle. Token 0 "
            "gets row 0: `positions[: x.shape[1]]`.",
            _last_rows,
        ),
        Mistake(
            "same_row_for_all",
            "You add row 0 to every token, so nobody can tell them apart. Token t gets row t.",
            _same_row_for_all,
        ),
        Mistake(
            "row_of_the_length",
            "You index with the number of tokens, which fetches one row for all of them. A slice "
            "fetches a row for each: `positions[: x.shape[1]]`, with a colon.",
            _row_of_the_length,
        ),
        Mistake(
            "feature_axis",
            "You take as many rows as there are features. The number of tokens is `x.shape[1]`; "
            "`x.shape[-1]` is d_model.",
            _feature_axis,
        ),
        Mistake(
            "adds_index",
            "You add the number of the place to all features and never read `positions`. Token t "
            "gets row t of it.",
            _adds_index,
        ),
        Mistake(
            "multiplies",
            "You multiply. A position of 0 would wipe out the token's number. Add: `+`.",
            _multiplies,
        ),
        Mistake(
            "scales_too",
            "You multiply `x` by √d_model as well. `InputEmbedding` does that, so it would be done "
            "twice. Only add here.",
            _scales_too,
        ),
        Mistake(
            "in_place",
            "The numbers are right, but `x += …` changes the caller's tensor. Write `x + …`, which "
            "makes a new one.",
            _in_place,
        ),
        Mistake(
            "detached",
            "The numbers are right, but you cut the positions off from their gradient, so learned "
            "positions would never learn. Leave out `detach`, `data` and `no_grad`.",
            _detached,
        ),
    ),
    alternatives=(_positions_by_embedding, _positions_expanded, _positions_token_by_token),
)

# --- shift_matrix --------------------------------------------------------------------------------


def _exponential_of_k_steps(k: int, d_model: int, base: float = 10000.0) -> Tensor:
    """The exponential of a matrix that says in which direction each pair of features moves."""
    step = torch.zeros(d_model, d_model, dtype=torch.float64)
    for sine in range(0, d_model, 2):
        frequency = base ** (-sine / d_model)
        step[sine, sine + 1], step[sine + 1, sine] = -frequency, frequency
    return torch.matrix_exp(k * step).float()


def _shift_matrix_cases() -> list[Case]:
    def case(title: str, k: int, d_model: int, **base: float) -> Case:
        arguments = {"k": k, "d_model": d_model, **base}
        shown = ", ".join(f"{name}={value:g}" for name, value in arguments.items())
        return Case(title, arguments, _exponential_of_k_steps, shown=f"shift_matrix({shown})")

    return [
        case("one token on, two frequencies", 1, 4, base=100.0),
        case("three tokens on", 3, 8),
        case("back", -2, 6),
        case("another base", 5, 10, base=50.0),
        case("one frequency", 4, 2),
        case("not at all", 0, 6),
        case("far", 30, 12),
    ]


def _rotations(sines: Tensor, cosines: Tensor) -> Tensor:
    """Blocks that turn a row of a sine and a cosine on."""
    blocks = torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*blocks)


def _rotates_wrong_way(k, d_model, base=10000.0):
    angles = k * _frequencies(d_model, base)
    return _rotations(-angles.sin(), angles.cos())


def _one_frequency_for_all(k, d_model, base=10000.0):
    angles = k * torch.ones(d_model // 2)
    return _rotations(angles.sin(), angles.cos())


def _adds_constant(k, d_model, base=10000.0):
    return torch.eye(d_model) + k


def _moves_features(k, d_model, base=10000.0):
    return torch.eye(d_model).roll(k, dims=1)


def _k_ignored(k, d_model, base=10000.0):
    angles = _frequencies(d_model, base)
    return _rotations(angles.sin(), angles.cos())


def _shift_ignores_base(k, d_model, base=10000.0):
    angles = k * _frequencies(d_model, 10000.0)
    return _rotations(angles.sin(), angles.cos())


def _shift_exponent_i_over_d(k, d_model, base=10000.0):
    angles = k * base ** (-torch.arange(d_model // 2) / d_model)
    return _rotations(angles.sin(), angles.cos())


def _shift_in_blocks(k, d_model, base=10000.0):
    angles = k * _frequencies(d_model, base)
    sines, cosines = angles.sin().diag(), angles.cos().diag()
    return torch.cat((torch.cat((cosines, -sines), 1), torch.cat((sines, cosines), 1)))


def _forgot_minus(k, d_model, base=10000.0):
    angles = k * _frequencies(d_model, base)
    sines, cosines = angles.sin(), angles.cos()
    blocks = torch.stack((cosines, sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*blocks)


def _shift_by_writing_entries(k, d_model, base=10000.0):
    matrix = torch.zeros(d_model, d_model)
    for i in range(d_model // 2):
        angle = k / base ** (2 * i / d_model)
        matrix[2 * i, 2 * i] = matrix[2 * i + 1, 2 * i + 1] = math.cos(angle)
        matrix[2 * i + 1, 2 * i] = math.sin(angle)
        matrix[2 * i, 2 * i + 1] = -math.sin(angle)
    return matrix


def _shift_by_powers(k, d_model, base=10000.0):
    """One step, k times."""
    angles = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    return torch.linalg.matrix_power(_rotations(angles.sin(), angles.cos()), k).float()


def _shift_by_diagonals(k, d_model, base=10000.0):
    angles = (k * _frequencies(d_model, base)).repeat_interleave(2)
    beside = angles.sin()[:-1] * (torch.arange(d_model - 1) % 2 == 0)
    return torch.diag(angles.cos()) + torch.diag(beside, -1) - torch.diag(beside, 1)


SHIFT_MATRIX = Exercise(
    part="positions.shift_matrix",
    notebook="04",
    used_by="the experiments of this notebook: the head that looks at the previous token",
    cases=_shift_matrix_cases,
    hints=(
        "Moving on by k tokens turns hand i by k times its frequency. All hands turn at the same "
        "time, and none cares about the others.",
        "For one hand, with a = k * frequency: sin(x + a) = sin x cos a + cos x sin a, and "
        "cos(x + a) = cos x cos a - sin x sin a.",
        "A row [sin x, cos x] times [[cos a, -sin a], [sin a, cos a]] gives both. So the matrix "
        "has such blocks of two on its diagonal and 0 elsewhere.",
        "`torch.block_diag(*blocks)` puts [d_model/2, 2, 2] blocks on a diagonal. A loop that "
        "writes the four entries of each block is fine as well.",
    ),
    mistakes=(
        Mistake(
            "rotates_wrong_way",
            "Your matrix moves back by k, not on: it is the transposed one. A row is multiplied "
            "from the left, positions[t] @ matrix, so the minus stands in the upper right of each "
            "block.",
            _rotates_wrong_way,
        ),
        Mistake(
            "one_frequency_for_all",
            "You turn all pairs by the same angle. Every pair has its own frequency: pair i turns "
            "by k * base^(-2i / d_model).",
            _one_frequency_for_all,
        ),
        Mistake(
            "adds_constant",
            "You add `k`. Positions are sines and cosines, and those do not move on by adding: "
            "each pair has to be turned.",
            _adds_constant,
        ),
        Mistake(
            "moves_features",
            "Your matrix moves numbers to other features. Moving on by k tokens leaves them where "
            "they are: each pair of features is turned in its place.",
            _moves_features,
        ),
        Mistake(
            "k_ignored",
            "Your matrix moves on by one token, whatever `k` is. Pair i turns by `k` times its "
            "frequency.",
            _k_ignored,
        ),
        Mistake(
            "base_ignored",
            "You use 10000 where it should say `base`. The matrix must turn as fast as the "
            "positions it is made for.",
            _shift_ignores_base,
        ),
        Mistake(
            "exponent_i_over_d",
            "Your exponent is i / d_model, and it should be 2i / d_model, as in "
            "`sinusoidal_positions`.",
            _shift_exponent_i_over_d,
        ),
        Mistake(
            "blocks",
            "Your matrix fits positions with all sines first and then all cosines, a legal other "
            "layout. Here they take turns: each pair of neighbours has a block of two by two.",
            _shift_in_blocks,
        ),
        Mistake(
            "forgot_minus",
            "A minus is missing, so your blocks do not turn, they stretch. In cos(x + a) = cos x "
            "cos a - sin x sin a one sign differs: it belongs in the upper right of each block.",
            _forgot_minus,
        ),
    ),
    alternatives=(_shift_by_writing_entries, _shift_by_powers, _shift_by_diagonals),
)

# --- relative_bias -------------------------------------------------------------------------------


def _biases_one_by_one(n_query: int, n_key: int, table: Tensor) -> Tensor:
    """The distances from -reach to reach are the keys of a dictionary."""
    reach = (len(table) - 1) // 2
    entries = dict(zip(range(-reach, reach + 1), table, strict=True))
    rows = [
        torch.stack([entries[min(max(query - key, -reach), reach)] for key in range(n_key)])
        for query in range(n_query)
    ]
    return torch.stack(rows)


def _relative_bias_cases() -> list[Case]:
    def case(title: str, n_query: int, n_key: int, table: Tensor) -> Case:
        arguments = {"n_query": n_query, "n_key": n_key, "table": table}
        shown = f"relative_bias(n_query={n_query}, n_key={n_key}, table)"
        return Case(title, arguments, _biases_one_by_one, shown=shown)

    random = inputs.normal
    small = torch.tensor([-2.0, -1.0, 0.0, 10.0, 20.0])
    return [
        case("four queries, four keys, reach 2", 4, 4, small),
        case("more keys than queries", 3, 7, random(7)),
        case("more queries than keys", 8, 3, random(5)),
        case("the reach is longer than the text", 3, 4, random(13)),
        case("reach 1", 6, 5, random(3)),
        case("no reach: one entry for all distances", 3, 2, random(1)),
        case("one query", 1, 5, random(5)),
        case("one key", 5, 1, random(5)),
        case("every other entry of a table", 6, 7, random(10)[1::2]),
        case("float64", 5, 6, random(7, dtype=torch.float64)),
        case("bfloat16", 5, 6, random(7, dtype=torch.bfloat16)),
    ]


def _distances(n_query: int, n_key: int) -> Tensor:
    return torch.arange(n_query)[:, None] - torch.arange(n_key)


def _absolute_distance(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).abs().clamp(max=reach) + reach]


def _absolute_distance_as_place(n_query, n_key, table):
    return table[_distances(n_query, n_key).abs().clamp(max=len(table) // 2)]


def _sign_flipped(n_query, n_key, table):
    reach = len(table) // 2
    return table[(-_distances(n_query, n_key)).clamp(-reach, reach) + reach]


def _no_clipping(n_query, n_key, table):
    return table[_distances(n_query, n_key) + len(table) // 2]


def _forgot_offset(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(-reach, reach)]


def _wraps_around(n_query, n_key, table):
    return table[(_distances(n_query, n_key) + len(table) // 2) % len(table)]


def _nothing_beyond_reach(n_query, n_key, table):
    reach = len(table) // 2
    distances = _distances(n_query, n_key)
    bias = table[distances.clamp(-reach, reach) + reach]
    return bias.masked_fill(distances.abs() > reach, 0.0)


def _square(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_query).clamp(-reach, reach) + reach]


def _keys_as_rows(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(-reach, reach) + reach].T


def _last_query_at_last_key(n_query, n_key, table):
    reach = len(table) // 2
    distances = _distances(n_query, n_key) + n_key - n_query
    return table[distances.clamp(-reach, reach) + reach]


def _returns_distances(n_query, n_key, table):
    reach = len(table) // 2
    return _distances(n_query, n_key).clamp(-reach, reach).to(table.dtype)


def _biases_in_loops(n_query, n_key, table):
    reach = (len(table) - 1) // 2
    bias = table.new_zeros(n_query, n_key)
    for i in range(n_query):
        for j in range(n_key):
            bias[i, j] = table[max(-reach, min(reach, i - j)) + reach]
    return bias


def _biases_by_one_hot(n_query, n_key, table):
    reach = len(table) // 2
    places = torch.clamp(_distances(n_query, n_key) + reach, 0, 2 * reach)
    return F.one_hot(places, len(table)).to(table.dtype) @ table


def _biases_by_windows(n_query, n_key, table):
    """The table with its ends drawn out, reversed; each query's row starts one place earlier."""
    reach = len(table) // 2
    farther = table[-1:].expand(max(n_query - 1 - reach, 0))
    nearer = table[:1].expand(max(n_key - 1 - reach, 0))
    long = torch.cat((nearer, table, farther)).flip(0)
    start = max(n_query - 1, reach)  # where the entry for the distance 0 stands
    return torch.stack([long[start - i : start - i + n_key] for i in range(n_query)])


RELATIVE_BIAS = Exercise(
    part="positions.relative_bias",
    notebook="04",
    used_by="`BiasedAttention`: each of its heads has a table and adds what it says to the scores",
    cases=_relative_bias_cases,
    hints=(
        "First write down the distance of every query from every key, i - j: 0 on the diagonal, "
        "positive where the key came earlier.",
        "`torch.arange(n_query)[:, None] - torch.arange(n_key)` is that matrix. `clamp` keeps it "
        "between -R and R, where a table of 2R + 1 entries has R = len(table) // 2.",
        "The table starts with the distance -R, so the entry for a distance stands at "
        "`distance + R`. `table[places]` looks up a whole matrix of places at once.",
    ),
    mistakes=(
        Mistake(
            "absolute_distance",
            "You use the distance without its sign, so a key three tokens before the query gets "
            "the same bias as one three tokens after it. Half of the table is never read. Use i - "
            "j.",
            _absolute_distance,
        ),
        Mistake(
            "absolute_distance_as_place",
            "You look up the distance without its sign, as if the table started with the distance "
            "0. It starts with -R: keep the sign, and the entry for i - j stands at i - j + R.",
            _absolute_distance_as_place,
        ),
        Mistake(
            "sign_flipped",
            "You use j - i, so before and after have changed places. The distance of query i from "
            "key j is i - j: positive where the key came earlier.",
            _sign_flipped,
        ),
        Mistake(
            "no_clipping",
            "Distances beyond the table are looked up as they are: that stops, or reads from the "
            "wrong end, because a negative place counts from the back. First `clamp` the distances "
            "to -R … R.",
            _no_clipping,
        ),
        Mistake(
            "forgot_offset",
            "You look up the distance itself. But the table starts with the distance -R, and "
            "negative places count from the back. Add R: the distance 0 stands in the middle.",
            _forgot_offset,
        ),
        Mistake(
            "wraps_around",
            "Distances beyond the table start again at its other end, so a far key after the query "
            "looks like one before it. Use the table's ends: `clamp`, not `%`.",
            _wraps_around,
        ),
        Mistake(
            "nothing_beyond_reach",
            "You give distances beyond the table a bias of 0. They should use the table's ends: a "
            "key that is very far is treated like one that is R away.",
            _nothing_beyond_reach,
        ),
        Mistake(
            "square",
            "You use the number of queries twice. Where another text is asked, there are more or "
            "fewer keys: the result is [n_query, n_key].",
            _square,
        ),
        Mistake(
            "keys_as_rows",
            "Your rows belong to keys and your columns to queries. As in the scores, rows ask: "
            "[n_query, n_key].",
            _keys_as_rows,
        ),
        Mistake(
            "last_query_at_last_key",
            "You count so that the last query stands at the last key, as programs do that keep old "
            "keys in a cache. Here query 0 stands at key 0: the distance is i - j.",
            _last_query_at_last_key,
        ),
        Mistake(
            "returns_distances",
            "You return the distances. They are only the places to look up: return what the table "
            "holds for them.",
            _returns_distances,
        ),
    ),
    alternatives=(_biases_in_loops, _biases_by_one_hot, _biases_by_windows),
)

# --- rope_angles ---------------------------------------------------------------------------------


def _angles_by_numpy(n_tokens: int, d_head: int, base: float = 10000.0) -> Tensor:
    frequencies = [1 / base ** (2 * pair / d_head) for pair in range(d_head // 2)]
    angles = np.multiply.outer(np.arange(n_tokens, dtype=np.float64), np.array(frequencies))
    return torch.from_numpy(angles).float()


def _rope_angles_cases() -> list[Case]:
    def case(title: str, n_tokens: int, d_head: int, **base: float) -> Case:
        arguments = {"n_tokens": n_tokens, "d_head": d_head, **base}
        shown = ", ".join(f"{name}={value:g}" for name, value in arguments.items())
        return Case(title, arguments, _angles_by_numpy, shown=f"rope_angles({shown})")

    return [
        case("three places, two pairs", 3, 4, base=100.0),
        case("more features", 5, 8),
        case("another base", 7, 10, base=50.0),
        case("as many places as pairs", 3, 6, base=20.0),
        case("one pair", 9, 2),
        case("one place", 1, 8),
        case("a long text and a large base", 300, 12, base=500000.0),
    ]


def _angles_at_places(n_tokens: int, frequencies: Tensor) -> Tensor:
    return torch.arange(n_tokens)[:, None] * frequencies


def _angles_exponent_i_over_d(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(d_head // 2) / d_head))


def _rope_exponent_doubled(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(0, d_head, 2) / (d_head // 2)))


def _angle_doubled(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, 2 * _frequencies(d_head, base))


def _angles_ignore_base(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, _frequencies(d_head, 10000.0))


def _angles_from_one(n_tokens, d_head, base=10000.0):
    return torch.arange(1, n_tokens + 1)[:, None] * _frequencies(d_head, base)


def _angles_rise(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, 1 / _frequencies(d_head, base))


def _same_angle_for_all_pairs(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, torch.ones(d_head // 2))


def _angles_twice(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, _frequencies(d_head, base)).repeat(1, 2)


def _angle_for_each_feature(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(d_head) / d_head))


def _angles_in_degrees(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, _frequencies(d_head, base)).rad2deg()


def _frequencies_only(n_tokens, d_head, base=10000.0):
    return _frequencies(d_head, base).expand(n_tokens, -1)


def _cosines_and_sines(n_tokens, d_head, base=10000.0):
    angles = _angles_at_places(n_tokens, _frequencies(d_head, base))
    return angles.cos(), angles.sin()


def _angles_by_outer(n_tokens, d_head, base=10000.0):
    inverse = 1.0 / (base ** (torch.arange(0, d_head, 2).float() / d_head))
    return torch.outer(torch.arange(n_tokens).float(), inverse)


def _angles_by_exp(n_tokens, d_head, base=10000.0):
    exponents = torch.arange(d_head // 2) * (-2 * math.log(base) / d_head)
    return torch.einsum("t,f->tf", torch.arange(n_tokens).float(), exponents.exp())


def _angles_by_steps(n_tokens, d_head, base=10000.0):
    """Each place is one more step on."""
    step = base ** (-torch.linspace(0, 1, d_head // 2 + 1, dtype=torch.float64)[:-1])
    return (step.expand(n_tokens, -1).cumsum(0) - step).float()


ROPE_ANGLES = Exercise(
    part="positions.rope_angles",
    notebook="04",
    used_by="`RotaryAttention`, which turns its queries and keys by these angles",
    cases=_rope_angles_cases,
    hints=(
        "They are the angles of the sinusoids before the sine: the place, times the frequency of "
        "the pair.",
        "There are d_head/2 pairs, and pair i has the frequency base^(-2i / d_head). "
        "`torch.arange(0, d_head, 2)` gives all the 2i.",
        "`torch.arange(n_tokens)[:, None] * frequencies` multiplies every place with every "
        "frequency. Return it as it is, [tokens, d_head/2].",
    ),
    mistakes=(
        Mistake(
            "exponent_i_over_d",
            "Your exponent is i / d_head, and it should be 2i / d_head. So the slow half of the "
            "frequencies is missing.",
            _angles_exponent_i_over_d,
        ),
        Mistake(
            "exponent_doubled",
            "Your exponent is 4i / d_head, so your frequencies fall twice as fast. Is 2i doubled "
            "once more, or divided by the number of pairs? It is 2i / d_head.",
            _rope_exponent_doubled,
        ),
        Mistake(
            "angle_doubled",
            "Your angles are twice too large. Pair 0 turns by 1 a token, pair i by "
            "base^(-2i / d_head): there is no other factor 2.",
            _angle_doubled,
        ),
        Mistake(
            "base_ignored",
            "You use 10000 where it should say `base`. Models for long texts use a larger one.",
            _angles_ignore_base,
        ),
        Mistake(
            "counts_from_one",
            "Your first place is 1. Places are counted from 0: the first row is all 0.",
            _angles_from_one,
        ),
        Mistake(
            "frequencies_rise",
            "Your pairs turn faster and faster: the sign of the exponent is wrong. Frequencies "
            "fall from 1 towards 1 / base.",
            _angles_rise,
        ),
        Mistake(
            "one_frequency_for_all",
            "You turn all pairs equally fast. Pair i has the frequency base^(-2i / d_head).",
            _same_angle_for_all_pairs,
        ),
        Mistake(
            "angles_twice",
            "You return the angles twice, side by side, as some programs do before they take the "
            "cosine. Here a pair has one angle: [tokens, d_head/2].",
            _angles_twice,
        ),
        Mistake(
            "angle_for_each_feature",
            "You give every feature an angle. Two features form a pair and turn together, so there "
            "are d_head/2 angles a token, with the exponents 0, 2, 4 … over d_head.",
            _angle_for_each_feature,
        ),
        Mistake(
            "degrees",
            "You return degrees. `sin` and `cos` take radians: leave the angles as they are.",
            _angles_in_degrees,
        ),
        Mistake(
            "frequencies_only",
            "Every place gets the same angles, so turning by them tells nobody where a token "
            "stands. Multiply the frequencies with the place.",
            _frequencies_only,
        ),
        Mistake(
            "cosines_and_sines",
            "You return cosines and sines. `apply_rope` takes them itself: return the angles.",
            _cosines_and_sines,
        ),
    ),
    alternatives=(_angles_by_outer, _angles_by_exp, _angles_by_steps),
)

# --- apply_rope ----------------------------------------------------------------------------------


def _turned_as_complex_numbers(x: Tensor, angles: Tensor) -> Tensor:
    """A pair is a complex number. Times exp(i a), it is turned by the angle a.

    The angles are not learned, so nothing asks for their gradient.
    """
    first, second = x.double().chunk(2, dim=-1)
    angles = angles.detach().double()
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def _apply_rope_cases() -> list[Case]:
    def case(title: str, x: Tensor, angles: Tensor) -> Case:
        return Case(title, {"x": x, "angles": angles}, _turned_as_complex_numbers)

    def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=dtype)

    def angles(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return 2 * random(*shape, seed=1, dtype=dtype)

    vectors = torch.tensor([[1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 3.0, 5.0]])
    quarter = math.pi / 2
    turns = torch.tensor([[0.0, 0.0], [quarter, -2 * quarter]])
    double, half = torch.float64, torch.bfloat16
    heads_from_split = random(2, 5, 3, 4).transpose(1, 2)
    return [
        case("the second token: a quarter of a turn, half a turn back", vectors, turns),
        case("a batch of sentences", random(2, 3, 8), angles(3, 4)),
        case("a batch with heads", random(2, 3, 5, 6), angles(5, 3)),
        case("as many heads as tokens", random(2, 4, 4, 6), angles(4, 3)),
        case("as many tokens as pairs", random(2, 3, 6), angles(3, 3)),
        case("one pair", random(3, 4, 2), angles(4, 1)),
        case("one token", random(2, 3, 1, 6), angles(1, 3)),
        case("heads that are views", heads_from_split, angles(5, 2)),
        case("transposed views", random(2, 6, 5).mT, angles(3, 5).T),
        case("float64", random(2, 5, 6, dtype=double), angles(5, 3, dtype=double)),
        case("bfloat16", random(2, 5, 6, dtype=half), angles(5, 3, dtype=half)),
    ]


def _turn(halves: Sequence[Tensor], angles: Tensor) -> tuple[Tensor, Tensor]:
    first, second = halves
    sines, cosines = angles.sin(), angles.cos()
    return first * cosines - second * sines, second * cosines + first * sines


def _interleaved_pairs(x, angles):
    return torch.stack(_turn((x[..., ::2], x[..., 1::2]), angles), dim=-1).flatten(-2)


def _taken_as_neighbours(x, angles):
    return torch.cat(_turn((x[..., ::2], x[..., 1::2]), angles), dim=-1)


def _wrong_sign(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), -angles), dim=-1)


def _turned_twice(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), 2 * angles), dim=-1)


def _second_reads_turned_first(x, angles):
    first, second = x.chunk(2, dim=-1)
    first = first * angles.cos() - second * angles.sin()
    second = second * angles.cos() + first * angles.sin()
    return torch.cat((first, second), dim=-1)


def _no_minus(x, angles):
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines + second * sines, second * cosines + first * sines), dim=-1)


def _two_minuses(x, angles):
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines - second * sines, second * cosines - first * sines), dim=-1)


def _sine_and_cosine_swapped(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), math.pi / 2 - angles), dim=-1)


def _joined_as_neighbours(x, angles):
    return torch.stack(_turn(x.chunk(2, dim=-1), angles), dim=-1).flatten(-2)


def _turns_tokens(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-2), angles), dim=-2)


def _angles_along_heads(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), angles[:, None]), dim=-1)


def _first_angle_for_all(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), angles[:, :1]), dim=-1)


def _adds_the_angles(x, angles):
    return x + torch.cat((angles, angles), dim=-1)


def _turned_by_complex_product(x, angles):
    pairs = torch.stack(x.double().chunk(2, dim=-1), dim=-1)
    rotation = torch.view_as_complex(torch.stack((angles.cos(), angles.sin()), dim=-1).double())
    turned = torch.view_as_real(torch.view_as_complex(pairs) * rotation)
    return turned.transpose(-1, -2).flatten(-2).type_as(x)


def _turned_by_matrices(x, angles):
    sines, cosines = angles.sin(), angles.cos()
    matrices = torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    pairs = x.unflatten(-1, (2, -1))
    return torch.einsum("tpij,...tjp->...tip", matrices, pairs).flatten(-2)


def _turned_with_rotate_half(x, angles):
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    both = torch.cat((angles, angles), dim=-1)
    return x * both.cos() + rotated * both.sin()


def _turned_by_writing(x, angles):
    turned, half = torch.empty_like(x), angles.shape[-1]
    turned[..., :half] = x[..., :half] * angles.cos() - x[..., half:] * angles.sin()
    turned[..., half:] = x[..., :half] * angles.sin() + x[..., half:] * angles.cos()
    return turned


APPLY_ROPE = Exercise(
    part="positions.apply_rope",
    notebook="04",
    used_by="`RotaryAttention`, for queries and for keys",
    cases=_apply_rope_cases,
    hints=(
        "A pair is a point in the plane: its first number is x[…, i], its second "
        "x[…, i + d_head/2]. Turn the point by its angle; its distance from 0 stays.",
        "Turning (a, b) by an angle gives (a cos - b sin, b cos + a sin).",
        "`first, second = x.chunk(2, dim=-1)` gives all first and all second numbers, and "
        "`angles` fits both: [tokens, d_head/2].",
        "Compute both halves from the old ones, then put them behind each other: "
        "`torch.cat((…, …), dim=-1)`.",
    ),
    mistakes=(
        Mistake(
            "interleaved_pairs",
            "You turn neighbours together, features 2i and 2i + 1. It is another legal layout, the "
            "paper's own. Here feature i belongs to feature i + d_head/2, as in the weights that "
            "we load later: `x.chunk(2, dim=-1)`.",
            _interleaved_pairs,
        ),
        Mistake(
            "wrong_sign",
            "You turn the other way. Scores would be the same, since queries and keys both turn, "
            "but weights of other models would not fit. The new first half is "
            "first * cos - second * sin.",
            _wrong_sign,
        ),
        Mistake(
            "angle_doubled",
            "You turn by twice the angle. Is it applied two times, or multiplied by 2 once more?",
            _turned_twice,
        ),
        Mistake(
            "second_reads_turned_first",
            "Your second line reads the first half that your first line has just turned. Both "
            "halves are made from the old ones: give the new ones other names.",
            _second_reads_turned_first,
        ),
        Mistake(
            "no_minus",
            "A minus is missing, so the pairs are stretched and not turned. The new first half is "
            "first * cos - second * sin.",
            _no_minus,
        ),
        Mistake(
            "two_minuses",
            "One minus too many: the second half gets a plus, second * cos + first * sin. With two "
            "minuses lengths change, so it is no rotation.",
            _two_minuses,
        ),
        Mistake(
            "sine_and_cosine_swapped",
            "Sine and cosine have changed places, so an angle of 0 already turns. At place 0 the "
            "vector must stay what it is: cos 0 = 1 belongs to the number itself.",
            _sine_and_cosine_swapped,
        ),
        Mistake(
            "joined_as_neighbours",
            "You take the pairs apart as halves but join them as neighbours, so features change "
            "places. Put the halves behind each other again: `torch.cat`.",
            _joined_as_neighbours,
        ),
        Mistake(
            "taken_as_neighbours",
            "You take neighbours as pairs but put the result back as halves, so features change "
            "places. Take halves as well: `x.chunk(2, dim=-1)`.",
            _taken_as_neighbours,
        ),
        Mistake(
            "turns_tokens",
            "You cut the tokens in two, and so pair features of different tokens. Cut the "
            "features: `dim=-1`.",
            _turns_tokens,
        ),
        Mistake(
            "angles_along_heads",
            "Your angles have the shape [tokens, 1, d_head/2], so with heads they go along the "
            "heads. Rows of `angles` belong to tokens, the last axis but one of `x`: use them as "
            "they are.",
            _angles_along_heads,
        ),
        Mistake(
            "first_angle_for_all",
            "You turn all pairs by the angle of pair 0. Every pair has a column of its own in "
            "`angles`.",
            _first_angle_for_all,
        ),
        Mistake(
            "adds_the_angles",
            "You add the angles to the features. Turning keeps the length of every pair; use the "
            "cosine and the sine of the angles.",
            _adds_the_angles,
        ),
    ),
    alternatives=(
        _turned_by_complex_product,
        _turned_by_matrices,
        _turned_with_rotate_half,
        _turned_by_writing,
    ),
)

EXERCISES: tuple[Exercise, ...] = (
    PERMUTATION_ERROR,
    SINUSOIDAL_POSITIONS,
    SHIFT_MATRIX,
    ADD_POSITIONS,
    RELATIVE_BIAS,
    ROPE_ANGLES,
    APPLY_ROPE,
)
