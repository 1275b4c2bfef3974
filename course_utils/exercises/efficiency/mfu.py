"""efficiency.mfu: how much of what the machine could do is used."""

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "efficiency.mfu",
    used_by="the comparison of training runs on different machines",
    hints=(
        "FLOPs of a token times tokens a second are FLOPs a second. Divide them by what the "
        "machine can do in a second.",
        "A parameter costs a token 2 FLOPs forward, a multiplication and an addition, and twice "
        "as much on the way back: 6.",
        "In a layer a token has a score with each of `n_tokens`, a product over `d_model` numbers "
        "in all heads together, and takes a share of each value, `d_model` numbers once more: "
        "2 · 2 · n_tokens · d_model forward, three times that in all.",
        "`tokens_per_second * (6 * n_parameters + 12 * n_layers * n_tokens * d_model) / "
        "peak_flops`",
    ),
)


def by_products(
    tokens_per_second: float,
    peak_flops: float,
    n_parameters: int,
    n_layers: int,
    n_tokens: int,
    d_model: int,
) -> float:
    """Multiplications of one token, one kind after the other."""
    multiplications = float(n_parameters)
    for _ in range(n_layers):
        multiplications += n_tokens * d_model  # scores
        multiplications += n_tokens * d_model  # shares of values
    forward = 2 * multiplications  # with an addition for each
    back_to_inputs, back_to_weights = forward, forward
    seconds_per_token = (forward + back_to_inputs + back_to_weights) / peak_flops
    return tokens_per_second * seconds_per_token


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, *given: float, point: str = "") -> Case:
        names = "tokens_per_second peak_flops n_parameters n_layers n_tokens d_model".split()
        call = f"mfu({', '.join(f'{one:g}' if one >= 1e6 else str(one) for one in given)})"
        arguments = dict(zip(names, given, strict=True))
        return Case(title, arguments, by_products, shown=call, point=point)

    looked_at = (
        "Looking at the other tokens costs as well, and more in longer texts: a score and a share "
        "of a value for every token of the text, in every layer."
    )
    a_second = "`peak_flops` are operations a second, 1e12 of them in a TFLOPS."
    whole_numbers = "All of them may be whole numbers: the share is a float all the same."
    above = "What is measured is returned as it is, also where it is more than 1 or nothing at all."
    without = (
        "With `n_tokens` 0 looking is left out, and the weights alone are counted: the length is a "
        "factor, and never a divisor."
    )
    long = "A text may be so long that looking costs more than all weights."
    return [
        case("a small model", 2000.0, 5e9, 150_000, 3, 70, 64),
        case("a slower machine", 300.0, 2e9, 420_000, 5, 48, 96),
        case("one layer, one token", 5e4, 1e9, 1200, 1, 1, 20),
        case("GPT-2 on an A100", 1.2e5, 312e12, 123_532_032, 12, 1024, 768, point=a_second),
        case("PaLM 540B", 238_300.0, 6144 * 275e12, 540_350_000_000, 118, 2048, 12288),
        case("the same, half as fast", 119_150.0, 6144 * 275e12, 540_350_000_000, 118, 2048, 12288),
        case("no layers", 7e5, 3e11, 50_000, 0, 128, 32, point=looked_at),
        case("twice as many layers", 900.0, 4e10, 90_000, 6, 110, 24, point=looked_at),
        case("a longer text", 900.0, 4e10, 90_000, 3, 220, 24, point=looked_at),
        case("without looking", 1.2e5, 312e12, 123_532_032, 12, 0, 768, point=without),
        case("a very long text", 4e3, 9e11, 30_000, 4, 100_000, 40, point=long),
        case("whole numbers", 400, 10**10, 80_000, 2, 30, 16, point=whole_numbers),
        case("nothing done", 0.0, 5e12, 10_000, 2, 30, 16, point=above),
        case("more than the peak", 9e6, 3e9, 20_000, 4, 16, 12, point=above),
    ]


def wrong(given, a_parameter=6.0, a_look=12.0, factor=1.0):
    """`a_parameter` and `a_look` are the FLOPs of either."""
    tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model = given
    flops = a_parameter * n_parameters + a_look * n_layers * n_tokens * d_model
    return float(factor * tokens_per_second * flops / peak_flops)


@exercise.mistake(
    "You count 6 FLOPs a parameter and leave out that tokens look at each other. In a layer every "
    "token costs 12 · n_tokens · d_model FLOPs more, on both ways together."
)
def six_n_without_attention(
    tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, a_look=0)


@exercise.mistake(
    "You count the way forward alone. The way back makes two products for every one: three times "
    "as much in all, 6 FLOPs a parameter."
)
def forward_only_2n(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, 2, 4)


@exercise.mistake(
    "You count 2 FLOPs a parameter, the way forward, and nothing for looking at other tokens."
)
def two_n_alone(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, 2, 0)


@exercise.mistake(
    "You take the peak for TFLOPS. `peak_flops` are operations a second: 312 TFLOPS come as 312e12."
)
def tflops_unit(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, factor=1e-12)


@exercise.mistake(
    "You count the parameters once more, as if checkpointing computed them again: that is HFU, "
    "what the hardware does. MFU counts what the model needs: 6 and 12."
)
def counts_what_is_recomputed(
    tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, 8, 16)


@exercise.mistake(
    "You count half of the tokens, those that a causal mask shows. Here all of n_tokens count, as "
    "they do for a kernel that has no shortcut."
)
def causal_half(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, a_look=6)


@exercise.mistake(
    "You count both ways for the parameters, and one way for looking at other tokens. The way back "
    "makes two products for every one there, too: 12, not 4."
)
def looks_forward_only(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, a_look=4)


@exercise.mistake(
    "You count looking at other tokens in one layer. Every layer does it: times n_layers."
)
def looks_in_one_layer(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    return wrong((tokens_per_second, peak_flops, n_parameters, 1, n_tokens, d_model))


@exercise.mistake(
    "You count all pairs of tokens. `tokens_per_second` counts tokens, and one token looks at "
    "n_tokens, not at n_tokens²."
)
def counts_pairs(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, a_look=12 * n_tokens)


@exercise.mistake(
    "You count the FLOPs of a text, not of a token: `tokens_per_second` are tokens already."
)
def counts_texts(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, factor=n_tokens)


@exercise.mistake(
    "You count a multiplication and its addition as one. They are two FLOPs: 6 and 12 a token, not "
    "3 and 6."
)
def multiplications_not_flops(
    tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, 3, 6)


@exercise.mistake("You return percent. The share is a number, where 1 is all of the peak.")
def in_percent(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    given = tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model
    return wrong(given, factor=100)


@exercise.mistake("You return operations a second. Divide them by the peak.")
def flops_not_share(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    return wrong((tokens_per_second, 1.0, n_parameters, n_layers, n_tokens, d_model))


@exercise.alternative
def mfu_in_steps(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    forward = 2 * n_parameters + n_layers * 4 * n_tokens * d_model
    backward = 2 * forward
    achieved = (forward + backward) * tokens_per_second
    return achieved / peak_flops


@exercise.alternative
def mfu_by_the_fastest(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    """As PaLM has it: tokens a second, of those that the peak would allow."""
    attention = 12 * n_layers * d_model * n_tokens
    most = peak_flops / (6 * n_parameters + attention)
    return tokens_per_second / most


@exercise.alternative
def mfu_layer_by_layer(tokens_per_second, peak_flops, n_parameters, n_layers, n_tokens, d_model):
    per_token = 6.0 * n_parameters
    for _ in range(n_layers):
        per_token += 12.0 * n_tokens * d_model
    return per_token / peak_flops * tokens_per_second
