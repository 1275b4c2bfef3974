"""scaling.compute_optimal: how large, and on how much text."""

import functools
import math
from typing import Any

import torch

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "scaling.compute_optimal",
    used_by="the plan of your own run: how large a model, on how much text",
    hints=(
        "Every pair with N · D = flops / 6 costs the same. Put D = flops / 6 / N into the loss: "
        "then there is one unknown, and the loss is a valley in it.",
        "At the lowest place the derivative is 0. Multiplied by N that says: alpha · a / N^alpha = "
        "beta · b / D^beta.",
        "Put D in again and solve for N: N^(alpha + beta) = alpha · a / (beta · b) · "
        "(flops / 6)^beta.",
        "Take the root 1 / (alpha + beta) of it. D is what is left: flops / 6 / N.",
    ),
)


@functools.cache
def _lowest_loss(
    flops: float, a: float, b: float, alpha: float, beta: float
) -> tuple[float, float]:
    """Halves the range of log n again and again, by the sign of torch's own gradient."""
    low, high = -100.0, 200.0
    for _ in range(100):
        log_n = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        log_d = math.log(flops) - math.log(6) - log_n
        loss = a * torch.exp(-alpha * log_n) + b * torch.exp(-beta * log_d)
        (slope,) = torch.autograd.grad(loss, log_n)
        low, high = (log_n.item(), high) if slope < 0 else (low, log_n.item())
    return math.exp(low), flops / (6 * math.exp(low))


def _call(part: Part, **arguments: float) -> Any:
    return part(**arguments)


def _spends_the_budget(part: Part, **arguments: float) -> Any:
    """What a part gives, if it costs what there is: N may be wrong as well, and D for two reasons.

    Raises Wrong where it costs less or more.
    """
    found, flops = part(**arguments), arguments["flops"]
    if isinstance(found, tuple) and len(found) == 2 and all(type(one) is float for one in found):
        spent = 6 * found[0] * found[1]
        if not math.isclose(spent, flops, rel_tol=1e-3):
            raise Wrong(
                f"The budget is not kept: 6 · N · D is {spent:.3g}, which is {spent / flops:.3g} "
                f"times `flops`. Whatever N is, D is what it leaves: flops / (6 · N)."
            )
    return found


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, *values: float, use: Any = _call, point: str = "") -> Case:
        names = ("flops", "a", "b", "alpha", "beta")
        call = f"compute_optimal({', '.join(f'{value:g}' for value in values)})"
        arguments = dict(zip(names, values, strict=True))
        return Case(title, arguments, _lowest_loss, use, call, point=point)

    any_size = (
        "N and D may be of any size, from a few to many billions: a formula finds them, where a "
        "search is limited by its range and by its steps."
    )
    return [
        case("a small budget", 6e6, 8.0, 30.0, 0.5, 0.25, use=_spends_the_budget),
        case("Hoffmann et al., a day on a few GPUs", 1e19, 406.4, 410.7, 0.34, 0.28),
        case("both alike", 6e8, 5.0, 5.0, 0.3, 0.3),
        case("alike but for the factors", 2e15, 3.0, 900.0, 0.4, 0.4),
        case("Hoffmann et al., as much as for Gopher", 5.76e23, 406.4, 410.7, 0.34, 0.28,
             point=any_size),
        case("size hardly helps", 3e12, 20.0, 7.0, 0.9, 0.2, point=any_size),
        case("text hardly helps", 3e12, 0.7, 50.0, 0.15, 0.8, point=any_size),
    ]  # fmt: skip


def _optimum(flops, share, power, passes=6):
    """N as a share of a power of what can be paid, and D for what is left of it."""
    n = share * (flops / passes) ** power
    return n, flops / passes / n


@exercise.mistake(
    "You let N grow with the power 0.73 of the budget: that is Kaplan's estimate. The "
    "power follows from the alpha and beta that you are given."
)
def kaplan_ratio(flops, a, b, alpha, beta):
    return _optimum(flops, 1.0, 0.73)


def _share(a, b, alpha, beta):
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta))


@exercise.mistake(
    "You spend the budget as N · D. Every parameter costs 6 FLOPs for every token: 6 · N · D."
)
def c_equals_nd(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / (alpha + beta), passes=1)


@exercise.mistake(
    "You spend the budget as 2 · N · D. That is forward alone; with the way back it is 6."
)
def forward_only(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / (alpha + beta), passes=2)


@exercise.mistake("Your N is right. Your D is flops / N: the 6 is missing.")
def six_forgotten_in_d(flops, a, b, alpha, beta):
    n, d = _lowest_loss(flops, a, b, alpha, beta)
    return n, 6 * d


@exercise.mistake(
    "The 6 is in your D, and missing in your N: what is raised to a power is flops / 6."
)
def six_forgotten_in_n(flops, a, b, alpha, beta):
    n = _share(a, b, alpha, beta) * flops ** (beta / (alpha + beta))
    return n, flops / 6 / n


@exercise.mistake(
    "You spend everything on parameters, and one token is left to learn from. Where both "
    "matter, the lowest loss is in between."
)
def all_in_parameters(flops, a, b, alpha, beta):
    return flops / 6, 1.0


@exercise.mistake(
    "You spend everything on tokens, and one parameter is left to learn with. Where both "
    "matter, the lowest loss is in between."
)
def all_in_tokens(flops, a, b, alpha, beta):
    return 1.0, flops / 6


@exercise.mistake(
    "You take 20 tokens for each parameter. That is a rule of thumb for one set of "
    "constants: compute what yours give."
)
def twenty_tokens(flops, a, b, alpha, beta):
    n = math.sqrt(flops / 120)
    return n, 20 * n


@exercise.mistake("You make N and D equal. That is right only where a is b and alpha is beta.")
def half_and_half(flops, a, b, alpha, beta):
    return math.sqrt(flops / 6), math.sqrt(flops / 6)


@exercise.mistake(
    "You let N grow with the root of the budget. The power is beta / (alpha + beta), which "
    "is 0.5 only where alpha is beta."
)
def share_of_a_root(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), 0.5)


@exercise.mistake(
    "Your N grows with alpha / (alpha + beta). That is the power of D: the sooner size "
    "stops to help, the less of it you buy. N has beta / (alpha + beta)."
)
def powers_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), alpha / (alpha + beta))


@exercise.mistake("You swap alpha and beta. alpha belongs to the parameters, beta to the tokens.")
def alpha_and_beta_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, beta, alpha), alpha / (alpha + beta))


@exercise.mistake(
    "You swap alpha and beta in the share. At the lowest place alpha · a / N^alpha = "
    "beta · b / D^beta: alpha stands beside a."
)
def share_of_swapped_powers(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, beta, alpha), beta / (alpha + beta))


@exercise.mistake("Your N is right. Your D is multiplied by it: flops / 6 / N, or flops / (6 · N).")
def d_times_n(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, flops / 6 * n


@exercise.mistake("Yours is N^(alpha + beta). Take the root of it, the power 1 / (alpha + beta).")
def forgot_root(flops, a, b, alpha, beta):
    return _optimum(flops, alpha * a / (beta * b), beta)


@exercise.mistake(
    "Parentheses are missing: `x / beta * b` is `(x / beta) * b` to Python. Write `x / (beta * b)`."
)
def no_parentheses_below(flops, a, b, alpha, beta):
    share = (alpha * a / beta * b) ** (1 / (alpha + beta))
    return _optimum(flops, share, beta / (alpha + beta))


@exercise.mistake(
    "Parentheses are missing: `1 / alpha + beta` is `(1 / alpha) + beta` to Python. "
    "Write `1 / (alpha + beta)`."
)
def no_parentheses_in_the_root(flops, a, b, alpha, beta):
    share = (alpha * a / (beta * b)) ** (1 / alpha + beta)
    return _optimum(flops, share, beta / (alpha + beta))


@exercise.mistake(
    "Parentheses are missing: `beta / alpha + beta` is `(beta / alpha) + beta` to Python. "
    "Write `beta / (alpha + beta)`."
)
def no_parentheses_in_the_power(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / alpha + beta)


@exercise.mistake(
    "You have the share of N upside down. The more a weighs, the larger N: "
    "alpha · a stands above, beta · b below."
)
def share_inverted(flops, a, b, alpha, beta):
    return _optimum(flops, 1 / _share(a, b, alpha, beta), beta / (alpha + beta))


@exercise.mistake(
    "You make a / N^alpha and b / D^beta equal. At the lowest place their slopes are: "
    "alpha · a / N^alpha = beta · b / D^beta."
)
def losses_made_equal(flops, a, b, alpha, beta):
    return _optimum(flops, (a / b) ** (1 / (alpha + beta)), beta / (alpha + beta))


@exercise.mistake(
    "You set the slopes in N and in D equal, as if a parameter cost what a token costs. "
    "One more of N takes away from D: put D = flops / 6 / N in first."
)
def slopes_as_if_free(flops, a, b, alpha, beta):
    share = (alpha * a / (beta * b)) ** (1 / (alpha + beta + 2))
    return _optimum(flops, share, (beta + 1) / (alpha + beta + 2))


@exercise.mistake(
    "You use the powers only. The factors matter too: (alpha · a / (beta · b)), to the "
    "power 1 / (alpha + beta)."
)
def forgot_share(flops, a, b, alpha, beta):
    return _optimum(flops, 1.0, beta / (alpha + beta))


@exercise.mistake(
    "You forget the root of the share. N was raised to alpha + beta: everything on the "
    "other side gets the power 1 / (alpha + beta)."
)
def share_without_root(flops, a, b, alpha, beta):
    return _optimum(flops, alpha * a / (beta * b), beta / (alpha + beta))


@exercise.mistake(
    "Your N is right. Your D lacks its share, so the budget is missed: take flops / 6 / N."
)
def share_forgotten_in_d(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, (flops / 6) ** (alpha / (alpha + beta))


@exercise.mistake(
    "Your N is right. Your D has the same share as N: it gets 1 / share, or simply flops / 6 / N."
)
def same_share_for_both(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, _share(a, b, alpha, beta) * (flops / 6) ** (alpha / (alpha + beta))


@exercise.mistake("You swap a and b. a belongs to the parameters, b to the tokens.")
def factors_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(b, a, alpha, beta), beta / (alpha + beta))


@exercise.mistake("You give the tokens first. Return N, then D.")
def tokens_first(flops, a, b, alpha, beta):
    n, d = _lowest_loss(flops, a, b, alpha, beta)
    return d, n


@exercise.mistake("You return N only. Return both: N, and D = flops / 6 / N.")
def n_only(flops, a, b, alpha, beta):
    return _lowest_loss(flops, a, b, alpha, beta)[0]


@exercise.alternative
def optimum_as_published(flops, a, b, alpha, beta):
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    half = flops / 6
    return g * half ** (beta / (alpha + beta)), 1 / g * half ** (alpha / (alpha + beta))


@exercise.alternative
def optimum_in_logs(flops, a, b, alpha, beta):
    budget = math.log(flops / 6)
    x = (math.log(alpha * a) - math.log(beta * b) + beta * budget) / (alpha + beta)
    return math.exp(x), math.exp(budget - x)


@exercise.alternative
def optimum_by_tokens(flops, a, b, alpha, beta):
    power = 1 / (alpha + beta)
    tokens = (beta * b / (alpha * a)) ** power * (flops / 6) ** (alpha * power)
    return flops / (6 * tokens), tokens


@exercise.alternative
def optimum_by_halving(flops, a, b, alpha, beta):
    low, high = 1e-30, 1e60
    for _ in range(200):
        n = math.sqrt(low * high)
        d = flops / 6 / n
        if alpha * a * n**-alpha > beta * b * d**-beta:
            low = n
        else:
            high = n
    return n, flops / 6 / n
