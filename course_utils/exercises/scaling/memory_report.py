"""scaling.memory_report: what is held in memory, by kind."""

from typing import Any

import torch

from course_utils import sampling, scaling
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.scaling import shared
from course_utils.scaling import Sizes

exercise = Exercise(
    "scaling.memory_report",
    used_by="the calculator: does it fit on this machine?",
    hints=(
        "First count numbers, then multiply every count by `bytes_per_number`, then add up.",
        '`count_parameters(sizes)` gives the weights, under "total". While learning each weight '
        "has a gradient, and AdamW keeps two means for it.",
        "There are n_rows · n_tokens tokens. For each the way back needs 16 · d_model numbers a "
        "layer, 2 · d_model after the last one, and its logits, one a word.",
        "While writing, each layer keeps a key and a value for each token: d_model numbers each, "
        "all heads together.",
        'For a `mode` that is neither "training" nor "generation", `raise ValueError(…)` first.',
    ),
)


_KEPT_IN_A_BLOCK = {
    "what the first norm is given": 1,
    "what queries, keys and values are made of": 1,
    "queries": 1,
    "keys": 1,
    "values": 1,
    "what the heads found": 1,
    "what the second norm is given": 1,
    "what feed-forward is given": 1,
    "before the GELU": 4,
    "after the GELU": 4,
}
"""Tensors that the way back needs, with their width as a multiple of d_model."""


_DTYPES = {1: torch.int8, 2: torch.bfloat16, 4: torch.float32, 8: torch.float64}


def _memory_tensor_by_tensor(
    sizes: Sizes, n_rows: int, n_tokens: int, mode: str = "training", bytes_per_number: int = 4
) -> dict[str, int]:
    def nbytes(*shape: int) -> int:
        return torch.empty(shape, dtype=_DTYPES[bytes_per_number], device="meta").nbytes

    weights = nbytes(shared.counted(sizes)["total"])
    if mode == "generation":
        return shared.with_total(
            {"weights": weights, "cache": _cache(sizes, n_rows, n_tokens, nbytes)}
        )
    widths = sizes.n_layers * [n * sizes.d_model for n in _KEPT_IN_A_BLOCK.values()]
    widths += [sizes.d_model, sizes.d_model, sizes.vocabulary]  # the last norm, the head, the loss
    return shared.with_total(
        {
            "weights": weights,
            "gradients": weights,
            "optimiser": weights + weights,
            "activations": sum(nbytes(n_rows, n_tokens, width) for width in widths),
        }
    )


def _cache(sizes: Sizes, n_rows: int, n_tokens: int, nbytes: Any) -> int:
    """Bytes of keys and values, as `sampling.KVCache` keeps them in every layer."""
    shape = n_rows, sizes.n_heads, n_tokens, sizes.d_model // sizes.n_heads
    cache = sampling.KVCache(n_tokens)
    cache.update(torch.empty(shape, device="meta"), torch.empty(shape, device="meta"))
    return sizes.n_layers * (nbytes(*cache.key.shape) + nbytes(*cache.value.shape))


def _unknown_mode(part: Part, mode: str, **arguments: Any) -> str:
    """What a part does where there is no such mode. All but a ValueError is a mistake."""
    try:
        report = part(mode=mode, **arguments)
    except ValueError:
        return "a ValueError"
    except Exception as error:
        raise Wrong(
            "An unknown mode should raise a ValueError that says which modes there are; yours "
            f"raises {error!r}."
        ).with_traceback(error.__traceback__) from None
    is_report = isinstance(report, dict) and report
    given = f"a report with {', '.join(map(str, report))}" if is_report else repr(report)
    raise Wrong(
        f"There is no mode {mode!r}, but yours gives {given}. Raise a ValueError that says which "
        "modes there are."
    )


def _part_of_a_mode(part: Part, mode: str, **arguments: Any) -> str:
    """As `_unknown_mode`, for a part of a name and for no name: one mistake takes both."""
    try:
        _unknown_mode(part, "", **arguments)
        return _unknown_mode(part, mode, **arguments)
    except Wrong:
        raise Wrong(
            f'Neither {mode!r} nor "" is a mode, but yours does not raise a ValueError for both.'
        ) from None


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, sizes: Sizes, n_rows: int, n_tokens: int, point: str = "", **options: Any
    ) -> Case:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        arguments = {"sizes": sizes, "n_rows": n_rows, "n_tokens": n_tokens, **options}
        call = f"memory_report(sizes, {n_rows}, {n_tokens}{given})"
        if options.get("mode") in (None, "training", "generation"):
            return Case(title, arguments, _memory_tensor_by_tensor, shown=call, point=point)
        use = _part_of_a_mode if options["mode"] == "train" else _unknown_mode
        return Case(title, arguments, lambda *_: "a ValueError", use, call, point=point)

    small, other = Sizes(50, 12, 3, 2, 9), Sizes(23, 20, 5, 4, 30)
    tied = Sizes(23, 20, 5, 4, 30, tied=True)
    single = Sizes(31, 10, 1, 1, 17)
    learns, writes = {"mode": "training"}, {"mode": "generation"}
    size = (
        "`bytes_per_number` is the size of every number there is: weights, gradients, optimiser, "
        "activations and cache."
    )
    weights = (
        'The weights are `count_parameters(sizes)["total"]`, which knows that a tied head has none '
        "of its own. Its logits are kept all the same."
    )
    beyond = "`n_tokens` is what the texts have, also where that is more than `context`."
    modes = (
        'There are two modes, spelt "training" and "generation". Whatever else is given raises a '
        "ValueError."
    )
    return [
        case("a small model learns", small, 5, 7),
        case("it writes", small, 5, 7, **writes),
        case("another model learns", other, 3, 11, **learns),
        case("one text of one token", small, 1, 1, **learns),
        case("one long text is written", single, 1, 17, **writes),
        case("it learns in half precision", other, 3, 11, size, **learns, bytes_per_number=2),
        case("it writes in half precision", other, 3, 11, size, **writes, bytes_per_number=2),
        case("it writes with one byte for a number", other, 2, 30, size, **writes,
             bytes_per_number=1),
        case("it learns in double precision", single, 2, 6, size, **learns, bytes_per_number=8),
        case("a tied head", tied, 3, 11, weights, **learns),
        case("a tied head, and a large vocabulary", shared.LARGE, 3, 5, weights, **learns),
        case("longer texts than the context", small, 2, 12, beyond),
        case("longer texts are written", small, 2, 12, beyond, **writes),
        case("a mode that there is not", small, 5, 7, modes, mode="inference"),
        case("a mode in capitals", small, 5, 7, modes, mode="Training"),
        case("a part of a mode's name", small, 5, 7, modes, mode="train"),
    ]  # fmt: skip


def _report(sizes, n_rows, n_tokens, mode, bytes_per_number, **wrong):
    """The right report but for some entries, given in numbers, and their sum."""
    if mode not in ("training", "generation"):
        raise ValueError(mode)
    right = _memory_tensor_by_tensor(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return shared.with_total(
        {
            what: wrong[what] * bytes_per_number if what in wrong else right[what]
            for what in list(right)[:-1]
        }
    )


def _wrong_entries(says):
    """`exercise.mistake` for what a mistake counts: some entries, in numbers."""

    def add(entries):
        def report(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
            wrong = entries(sizes, n_rows, n_tokens)
            return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, **wrong)

        report.__name__ = entries.__name__
        return exercise.mistake(says)(report)

    return add


@_wrong_entries(
    "You forget the optimiser. AdamW keeps two means for every weight: of the gradient, "
    "and of its square."
)
def forgot_optimiser(sizes, n_rows, n_tokens):
    return {"optimiser": 0}


def _weights(sizes):
    return shared.counted(sizes)["total"]


@_wrong_entries(
    "Your optimiser keeps one number for each weight. AdamW keeps two: the mean of the "
    "gradient, and that of its square."
)
def one_mean_a_weight(sizes, n_rows, n_tokens):
    return {"optimiser": _weights(sizes)}


@_wrong_entries(
    "Your optimiser keeps three numbers for each weight. The weight itself is counted "
    "already: two means remain."
)
def optimiser_has_the_weights_too(sizes, n_rows, n_tokens):
    return {"optimiser": 3 * _weights(sizes)}


@_wrong_entries("You forget the gradients. There is one for every weight.")
def forgot_gradients(sizes, n_rows, n_tokens):
    return {"gradients": 0}


@_wrong_entries(
    "You take 12 · layers · d² for the weights: the matrices of the blocks. Tables, "
    "biases and norms are held too: `count_parameters` gives them all."
)
def weights_of_blocks(sizes, n_rows, n_tokens):
    n = 12 * sizes.n_layers * sizes.d_model**2
    return {"weights": n, "gradients": n, "optimiser": 2 * n}


@_wrong_entries(
    "Your cache is as large as the weights. It has nothing to do with them: it holds a key "
    "and a value for every token in every layer."
)
def cache_times_two_model(sizes, n_rows, n_tokens):
    return {"cache": _weights(sizes)}


def _scaled_report(factor, sizes, n_rows, n_tokens, mode, bytes_per_number):
    report = _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return {what: factor(n) for what, n in report.items()}


@exercise.mistake("Yours is 8 times too large: you give bits. A byte is 8 bits.")
def bits_for_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: 8 * n, sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake("You divide by 2^20 and give mebibytes. Asked are bytes, as whole numbers.")
def in_mebibytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: n / 2**20, sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake("You divide by a million and give megabytes. Asked are bytes, as whole numbers.")
def in_megabytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: n / 10**6, sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake("You count numbers. Each takes `bytes_per_number` bytes.")
def numbers_for_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, 1)


@exercise.mistake("You always count 4 bytes. Take `bytes_per_number`.")
def always_four_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, 4)


@_wrong_entries("Your cache is half as large as it is. It keeps the keys and the values.")
def keys_or_values_only(sizes, n_rows, n_tokens):
    return {"cache": sizes.n_layers * sizes.d_model * n_rows * n_tokens}


@_wrong_entries("You count the cache of one layer. Every layer has keys and values of its own.")
def cache_of_one_layer(sizes, n_rows, n_tokens):
    return {"cache": 2 * sizes.d_model * n_rows * n_tokens}


@_wrong_entries("You count the cache of one head. All heads together have d_model numbers.")
def cache_of_one_head(sizes, n_rows, n_tokens):
    return {"cache": 2 * sizes.n_layers * sizes.d_model // sizes.n_heads * n_rows * n_tokens}


@_wrong_entries("You multiply the cache by the heads. All heads together have d_model numbers.")
def cache_times_heads(sizes, n_rows, n_tokens):
    return {"cache": 2 * sizes.n_layers * sizes.d_model * sizes.n_heads * n_rows * n_tokens}


@_wrong_entries("You count the cache of one text. There are `n_rows`, and no two are the same.")
def cache_of_one_row(sizes, n_rows, n_tokens):
    return {"cache": 2 * sizes.n_layers * sizes.d_model * n_tokens}


@_wrong_entries("Your cache has room for `context` tokens. Count the `n_tokens` that are kept.")
def cache_of_the_context(sizes, n_rows, n_tokens):
    return {"cache": 2 * sizes.n_layers * sizes.d_model * n_rows * sizes.context}


@exercise.mistake("You count one text, of `n_tokens`. There are `n_rows` of them.")
def one_row(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, 1, n_tokens, mode, bytes_per_number)


@exercise.mistake(
    "You take `context`, the longest text that fits. These texts have `n_tokens` each."
)
def tokens_of_the_context(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, sizes.context, mode, bytes_per_number)


def _activations(sizes, n_rows, n_tokens, block=16, outside=2, logits=1):
    d, tokens = sizes.d_model, n_rows * n_tokens
    return tokens * (block * sizes.n_layers * d + outside * d + logits * sizes.vocabulary)


@_wrong_entries(
    "You count what the blocks keep. After the last one 2 · d_model numbers a token are "
    "kept, and the logits, one for each word."
)
def blocks_only_kept(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, n_tokens, outside=0, logits=0)}


@_wrong_entries(
    "You forget the logits. They are needed on the way back, one for each word at each "
    "token: often the largest tensor of all."
)
def logits_not_kept(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, n_tokens, logits=0)}


@_wrong_entries(
    "You count the logits twice. What the fused loss keeps are the log probabilities, one "
    "for each word at each token."
)
def logits_kept_twice(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, n_tokens, logits=2)}


@_wrong_entries(
    "You count what the blocks keep, and the logits. The last norm and the head each keep "
    "what they are given, too: 2 · d_model a token."
)
def nothing_kept_outside_blocks(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, n_tokens, outside=0)}


@_wrong_entries(
    "You count what goes from block to block. The way back also needs what is inside: 16 · "
    "d_model numbers a token and layer."
)
def one_output_a_block(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, n_tokens, block=1)}


@_wrong_entries(
    "You count the activations of one layer. All layers keep theirs until the way back."
)
def activations_of_one_layer(sizes, n_rows, n_tokens):
    return {"activations": int(_activations(sizes, n_rows, n_tokens, block=16 / sizes.n_layers))}


@_wrong_entries("You count the activations of one text. There are `n_rows` in the batch.")
def activations_of_one_row(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, 1, n_tokens)}


@_wrong_entries("You count `context` tokens a text. This batch has `n_tokens`.")
def activations_of_the_context(sizes, n_rows, n_tokens):
    return {"activations": _activations(sizes, n_rows, sizes.context)}


@_wrong_entries(
    "You count the weights of attention, n_tokens² a head. Explicit parts keep them; fused "
    "kernels compute them again on the way back."
)
def attention_weights_kept(sizes, n_rows, n_tokens):
    maps = sizes.n_layers * sizes.n_heads * n_rows * n_tokens**2
    return {"activations": _activations(sizes, n_rows, n_tokens) + maps}


@exercise.mistake(
    "You take 34 · d_model bytes a token and layer. That is for 2 bytes a number, with "
    "dropout masks. Here it is 16 · d_model numbers."
)
def thirty_four_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, block=34 / bytes_per_number)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=int(kept))


@exercise.mistake(
    "You do not look at `mode`. While writing there are no gradients, no optimiser and no "
    "way back: weights, and the cache."
)
def ignores_mode(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, "training", bytes_per_number)


@exercise.mistake(
    'You take every mode but "training" for "generation". Somebody who misspells it would '
    "get a wrong report: raise a ValueError."
)
def other_modes_generate(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "training" if mode == "training" else "generation"
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake(
    'You take every mode but "generation" for "training". Somebody who misspells it would '
    "get a wrong report: raise a ValueError."
)
def other_modes_train(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "generation" if mode == "generation" else "training"
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake(
    "For a mode that there is not you return None. Whoever misspells it finds out much "
    "later: raise a ValueError."
)
def nothing_for_other_modes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    if mode in ("training", "generation"):
        return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return None


@exercise.mistake(
    'You take a part of a name for the mode. `in "training"` and `startswith` compare '
    'letters: ask for all of it, with `==` or `in ("training", "generation")`.'
)
def parts_of_names_are_modes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "training" if mode and mode in "training" else mode
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.mistake(
    'You accept "Training". That is kind, but the docstring names two modes: everything '
    "else is a ValueError."
)
def capitals_are_forgiven(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode.lower(), bytes_per_number)


@exercise.mistake('Your report has no sum. Add it as the entry "total".')
def forgot_total(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    report = _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return {what: n for what, n in report.items() if what != "total"}


@exercise.alternative
def memory_by_tensors(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


@exercise.alternative
def memory_by_bytes_a_weight(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    if mode not in {"training", "generation"}:
        raise ValueError(f'mode is "training" or "generation", not {mode!r}')
    weights = bytes_per_number * scaling.count_parameters(sizes)["total"]
    if mode == "generation":
        one_token = 2 * sizes.n_layers * sizes.d_model * bytes_per_number
        cache = one_token * n_tokens * n_rows
        return {"weights": weights, "cache": cache, "total": weights + cache}
    one_token = (16 * sizes.n_layers + 2) * sizes.d_model + sizes.vocabulary
    kept = n_rows * n_tokens * bytes_per_number * one_token
    return {
        "weights": weights,
        "gradients": weights,
        "optimiser": 2 * weights,
        "activations": kept,
        "total": 4 * weights + kept,
    }


@exercise.alternative
def memory_by_match(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    n = scaling.count_parameters(sizes)["total"]
    tokens = n_rows * n_tokens
    match mode:
        case "training":
            block = 8 * sizes.d_model + 2 * 4 * sizes.d_model
            kept = sizes.n_layers * block + 2 * sizes.d_model + sizes.vocabulary
            report = {"weights": n, "gradients": n, "optimiser": n + n}
            report["activations"] = kept * tokens
        case "generation":
            report = {"weights": n, "cache": tokens * sizes.n_layers * sizes.d_model * 2}
        case _:
            raise ValueError("no such mode")
    report["total"] = sum(report.values())
    return {name: value * bytes_per_number for name, value in report.items()}
