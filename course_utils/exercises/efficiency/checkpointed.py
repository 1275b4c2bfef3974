"""efficiency.checkpointed: a block whose inner numbers are computed again on the way back."""

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "efficiency.checkpointed",
    used_by="the memory of a deep model: one block at a time has its inner numbers",
    hints=(
        "Inside `with saved_tensors_hooks(pack, unpack):` autograd calls `pack(tensor)` for each "
        "tensor that it would keep, and keeps what that returns. On the way back it calls "
        "`unpack` with it, and wants the tensor.",
        "So let `pack` return a number: 0, 1, 2, … The first `unpack` runs `block(x)` once more, "
        "inside hooks whose `pack` puts each tensor at the end of a list. Then `unpack(place)` is "
        "the list's entry.",
        "On the way back torch does not note what it computes: run the block under "
        "`torch.enable_grad()`. Keep `torch.get_rng_state()` from the beginning, and set it inside "
        "`with torch.random.fork_rng():`, which puts back what was there.",
        "With `kind = x.device.type`, keep `torch.is_autocast_enabled(kind)` and "
        "`torch.get_autocast_dtype(kind)` from the beginning, and run the block again inside "
        "`torch.autocast(kind, dtype=…, enabled=…)`.",
        "`places = itertools.count()`, `again = []`, then `with saved_tensors_hooks(lambda one: "
        "next(places), unpack): return block(x)`. In `unpack`: `if not again:` run the block, "
        "`again.append(one.detach())` for each tensor, and `return again[place]` at the end.",
    ),
)


class Block(nn.Module):
    """Two maps with a bend and dropout between. It counts its calls, and knows what is in memory.

    It adds its input where the widths allow it.
    """

    def __init__(self, p: float, up: Tensor, down: Tensor):
        super().__init__()
        self.p = p
        self.up, self.down = nn.Parameter(up.detach().clone()), nn.Parameter(down.detach().clone())
        self.n_calls = 0
        self.inner: list[StorageWeakRef] = []

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        wide = F.linear(x, self.up)
        bent = torch.tanh(wide)
        dropped = F.dropout(bent, self.p)
        self.inner += [StorageWeakRef(one.untyped_storage()) for one in (wide, bent, dropped)]
        out = F.linear(dropped, self.down)
        return x + out if out.shape == x.shape else out

    def in_memory(self) -> int:
        """How many of its inner tensors somebody still has."""
        if not all(one.expired() for one in self.inner):
            gc.collect()
        return sum(not one.expired() for one in self.inner)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, n_hidden: int, d_out: int = 0, **more: Any) -> Case:
        point, shown = more.pop("point", ""), more.pop("shown", "checkpointed(block, x)")
        d, n_blocks = x.shape[-1], more.get("n_blocks", 1)
        arguments: dict[str, Any] = {"x": x}
        for number in range(n_blocks):
            last = d_out if d_out and number == n_blocks - 1 else d
            for name, shape in (("up", (n_hidden, d)), ("down", (last, n_hidden))):
                seed = len(arguments)
                arguments[f"{name}{number + 1}"] = inputs.normal(*shape, seed=seed, dtype=x.dtype)
        names = tuple(f"The gradient of `{name}`" for name in arguments)
        values = "The output", *names, "What is drawn next"
        use = partial(_use, **more)
        call = f"y = {shown}; y.backward(…)"
        oracle = partial(_without, **more)
        return Case(title, arguments, oracle, use, call, values, point)

    normal = inputs.normal
    dropped = (
        "Dropout draws the same numbers on the way back as on the way forward: keep torch's random "
        "state before the block runs, and set it before it runs again."
    )
    afterwards = (
        "What is drawn after the way back is what would be drawn without it: put the random state "
        "back as it was. `torch.random.fork_rng` does."
    )
    forgotten = (
        "Between forward and backward none of the block's inner tensors is in memory. Who has `x` "
        "can have all of them again."
    )
    one_call = (
        "The block runs once on the way forward, and once on the way back, however many tensors "
        "are asked for."
    )
    needs_none = (
        "Where `x` needs no gradient, as behind a frozen embedding, the block's weights need one "
        "all the same. `autograd.Function` does not go back to where no input needs a gradient."
    )
    any_function = (
        "`block` is anything that can be called: it may have no `parameters()`, and learn all the "
        "same."
    )
    cast = (
        "Autocast is around the way forward alone, as torch asks. Keep what it was, and have it "
        "again for the second run: else its numbers are of another type."
    )
    several = (
        "Every call is alone: another block, or the same one with another `x`, has inner numbers "
        "and a random state of its own."
    )
    adds = "Gradients are added to those that are there already, once."
    no_gradient = "Under `torch.no_grad()` there is no way back, and the output is the same."
    return [
        case("two tokens", normal(2, 3), 4),
        case("a batch of three", normal(3, 5, 2), 7),
        case("one token, another width", normal(1, 4), 6, 3),
        case("what is in memory", normal(4, 3), 6, watched="memory", point=forgotten),
        case("how often it runs", normal(3, 4), 5, watched="calls", point=one_call),
        case("dropout", normal(6, 5), 8, p=0.5, draws=5, point=dropped),
        case("dropout, a batch", normal(2, 7, 3), 5, 4, p=0.3, draws=2, point=dropped),
        case("drawn afterwards", normal(5, 3), 6, p=0.4, draws=4, next_draw=True, point=afterwards),
        case("x needs no gradient", normal(5, 2), 3, needs=False, point=needs_none),
        case("x needs none, dropout", normal(4, 6), 7, p=0.6, draws=1, needs=False, point=dropped),
        case("under autocast", normal(4, 7), 5, cast=True, point=cast),
        case("a function", normal(3, 6), 4, plain=True, point=any_function),
        case(
            "three blocks",
            *(normal(4, 5), 6, 3),
            n_blocks=3,
            p=0.5,
            draws=3,
            shown="checkpointed(block3, checkpointed(block2, checkpointed(block1, x)))",
            point=several,
        ),
        case(
            "one block, twice",
            *(normal(5, 4), 7),
            twice=True,
            p=0.2,
            shown="checkpointed(block, checkpointed(block, x))",
            point=several,
        ),
        case("gradients that are there already", normal(2, 5), 3, left_over=0.5, point=adds),
        case("no gradient wanted", normal(3, 2), 5, no_grad=True, point=no_gradient),
        case("a transposed view", normal(5, 4).T, 6, point=points.OTHER_ORDER),
        case("float64", normal(2, 4, dtype=torch.float64), 5, point=points.FLOAT64),
    ]


def _use(
    part: Part,
    x: Tensor,
    p: float = 0.0,
    watched: str = "",
    draws: int = 0,
    next_draw: bool = False,
    needs: bool = True,
    plain: bool = False,
    n_blocks: int = 1,
    twice: bool = False,
    left_over: float = 0.0,
    no_grad: bool = False,
    cast: bool = False,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """Output, gradients, and what is drawn next, where that is asked."""
    torch.default_generator.manual_seed(7)
    x = x.detach().requires_grad_(needs)
    blocks = [Block(p, weights[f"up{n}"], weights[f"down{n}"]) for n in range(1, n_blocks + 1)]
    learned = [weight for block in blocks for weight in block.parameters()]
    for weight in learned if left_over else ():
        weight.grad = torch.full_like(weight, left_over)
    y = x
    narrow = torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast)
    with torch.no_grad() if no_grad else nullcontext(), narrow:
        for block in blocks * (1 + twice):
            y = part(block.__call__ if plain else block, y)
            if not isinstance(y, Tensor):
                return y  # the comparison says what it should be
    if x.requires_grad != needs:
        raise Wrong("Your code changes whether `x` needs a gradient: the caller has not asked it.")
    if watched == "memory":
        _refuse_to_keep(blocks[0], "forward", "Only `x` should be.")
    if watched == "calls":
        _refuse_calls(blocks[0], 1, "the way forward")
    torch.rand(draws)  # as the blocks behind this one do
    if not no_grad:
        _go_back(y)
    if watched == "memory":
        _refuse_to_keep(blocks[0], "back", "Nothing should be.")
    if watched == "calls":
        _refuse_calls(blocks[0], 2, "the way forward and the way back")
    gradients = [_gradient(name, one) for name, one in _named(x, learned, weights, no_grad)]
    drawn = torch.rand(3) if next_draw else torch.zeros(1)
    return y.detach().clone(), *gradients, drawn


def _named(
    x: Tensor, learned: Sequence[Tensor], weights: dict[str, Tensor], no_grad: bool
) -> Iterator[tuple[str, Tensor]]:
    """What has a gradient, with its name. Where nothing has, gradients of 0."""
    for name, one in zip(("x", *weights), (x, *learned), strict=True):
        if no_grad or not one.requires_grad:
            one = one.detach().clone()
            one.grad = torch.zeros_like(one)
        yield name, one


def _gradient(name: str, one: Tensor) -> Tensor:
    if one.grad is None:
        raise Wrong(
            f"After `y.backward(…)` there is no gradient of `{name}`: the way back does not lead "
            "to it."
        )
    return one.grad.clone()


def _go_back(y: Tensor) -> None:
    if not y.requires_grad:
        raise Wrong("Your output needs no gradient, so there is no way back from it.")
    try:
        y.backward(inputs.normal(*y.shape, seed=9, dtype=y.dtype))
    except RuntimeError as error:
        if "same dtype" not in str(error):
            raise
        raise Wrong(
            "On the way back the numbers of your second run are of another type than those of the "
            "first: was it under the same autocast?"
        ) from error


def _refuse_to_keep(block: Block, way: str, wanted: str) -> None:
    kept = block.in_memory()
    if kept:
        raise Wrong(
            f"Of the block's {len(block.inner)} inner tensors {kept} are still in memory when the "
            f"way {way} is over. {wanted}"
        )


def _refuse_calls(block: Block, most: int, way: str) -> None:
    if block.n_calls != most:
        raise Wrong(
            f"For {way} the block should run {_times(most)}, yours {_times(block.n_calls)}."
        )


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _without(*arguments: Tensor, watched: str = "", **more: Any) -> tuple[Tensor, ...]:
    """What the block gives as it is, by autograd."""
    x, *weights = arguments
    names = [f"{name}{n // 2 + 1}" for n in range(0, len(weights), 2) for name in ("up", "down")]
    named: dict[str, Any] = dict(zip(names, weights, strict=True))
    with torch.random.fork_rng():
        return _use(_as_it_is, x, **more, **named)


def _as_it_is(block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return block(x)


# --- wrong versions ------------------------------------------------------------------------------


@contextmanager
def _drawn_from(state: Tensor) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.set_rng_state(state)
        yield


def _as_now() -> AbstractContextManager:
    """Autocast as it is now, for later."""
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    return torch.autocast("cpu", dtype=dtype, enabled=enabled)


class Again(torch.autograd.Function):
    """The usual way: `again` is a context for the second run, `give` what is done with its output.

    `keep` is called with the arguments of the first run, and gives `again`.
    """

    @staticmethod
    def forward(ctx, x, _, block, again, give, cast):
        ctx.save_for_backward(x)
        ctx.block, ctx.needs, ctx.give = block, x.requires_grad, give
        ctx.again, ctx.cast = again(torch.get_rng_state()), cast()
        return block(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with ctx.again(), torch.enable_grad(), ctx.cast:
            y = ctx.block(x)
        ctx.give(x, y, gradient)
        return (x.grad if ctx.needs else None), None, None, None, None, None


def _same_draws(state):
    return lambda: _drawn_from(state)


def _give_back(x, y, gradient):
    y.backward(gradient)


def in_steps(block, x, again=_same_draws, give=_give_back, always=True, cast=_as_now):
    """Right. Each mistake does one of the steps otherwise."""
    return Again.apply(x, torch.zeros(1, requires_grad=always), block, again, give, cast)


@exercise.mistake(
    "All inner tensors of the block are kept, by autograd or by hooks whose `pack` returns the "
    "tensor itself. Keep `x` alone, and run the block again on the way back."
)
def keeps_everything(block, x):
    return block(x)


@exercise.mistake(
    "Under `torch.no_grad()` nothing is kept, and there is no way back either. Autograd has to "
    "know what to do on the way back: hooks, or an `autograd.Function`."
)
def no_grad_forward_only(block, x):
    with torch.no_grad():
        return block(x)


@exercise.mistake(
    "You detach `x`, so nothing before the block can learn; and the inner tensors are kept all the "
    "same."
)
def detaches(block, x):
    return block(x.detach())


@exercise.mistake(
    "On the way back dropout draws other numbers than on the way forward, so the gradients belong "
    "to another output. Keep torch's random state, and set it for the second run."
)
def dropout_differs(block, x):
    return in_steps(block, x, again=lambda state: nullcontext)


@exercise.mistake(
    "You set the random state for the second run and leave it there: what is drawn afterwards has "
    "been drawn before. Put back the state that was there: `torch.random.fork_rng`."
)
def state_not_put_back(block, x):
    def again(state):
        def set_it():
            torch.set_rng_state(state)
            return nullcontext()

        return set_it

    return in_steps(block, x, again=again)


@exercise.mistake(
    "You keep the random state that is there after the block has run. The second run has to begin "
    "with the one before it."
)
def state_kept_too_late(block, x):
    late = []

    def run(one):
        y = block(one)
        late.append(torch.get_rng_state())
        return y

    return in_steps(run, x, again=lambda state: lambda: _drawn_from(late[0]))


@exercise.mistake(
    "The second run is not under the autocast of the first, since that ends with the way forward. "
    "Keep what it was before the block runs, and enter it again."
)
def autocast_forgotten(block, x):
    return in_steps(block, x, cast=nullcontext)


@exercise.mistake(
    "You set a seed of your own, so every call, of every block, draws the same numbers, and the "
    "output is not that of the block. Keep the state that is there."
)
def own_seed(block, x):
    def run(one):
        torch.manual_seed(0)
        return block(one)

    return in_steps(run, x)


@exercise.mistake(
    "Nothing is learned where `x` needs no gradient: an `autograd.Function` is passed over on the "
    "way back if none of its inputs needs one. Give it one that does."
)
def only_where_x_needs_it(block, x):
    return in_steps(block, x, always=False)


@exercise.mistake(
    "The gradient of `x` is right, but the weights of the block get none: `torch.autograd.grad` "
    "with `x` alone leaves them out. `y.backward(gradient)` fills theirs as well."
)
def weights_do_not_learn(block, x):
    def give(x, y, gradient):
        (x.grad,) = torch.autograd.grad(y, x, gradient)

    return in_steps(block, x, give=give)


@exercise.mistake(
    "You go back from the sum of the block's output. Go back from the output with the gradient "
    "that comes from behind: `y.backward(gradient)`."
)
def ignores_what_comes_from_behind(block, x):
    return in_steps(block, x, give=lambda x, y, gradient: y.backward(torch.ones_like(y)))


@exercise.mistake(
    "You run the block anew for each tensor that is asked for. Once gives all of them: keep the "
    "list until the way back has used it."
)
def runs_for_each_tensor(block, x):
    return by_hooks(block, x, once=False)


@exercise.mistake(
    "The tensors of the second run are kept for ever: each knows how it was made, and that knows "
    "your hooks, which have the tensors. Put `one.detach()` into the list."
)
def not_detached(block, x):
    return by_hooks(block, x, kept=lambda one: one)


@exercise.mistake(
    "You run the block twice on the way forward. Its second run belongs on the way back, when its "
    "numbers are needed."
)
def runs_twice_forward(block, x):
    with torch.no_grad(), torch.random.fork_rng():
        block(x)
    return in_steps(block, x)


# --- right ---------------------------------------------------------------------------------------


def by_hooks(block, x, once=True, kept=torch.Tensor.detach):
    """With a dictionary, and the state put back by hand."""
    before, cast = torch.get_rng_state(), _as_now()
    numbers: list[int] = []
    found: dict[int, Tensor] = {}

    def pack(tensor):
        numbers.append(len(numbers))
        return numbers[-1]

    def unpack(number):
        if number not in found or not once:
            now = torch.get_rng_state()
            torch.set_rng_state(before)
            places = itertools.count()

            def note(tensor):
                found[next(places)] = kept(tensor)

            keep = saved_tensors_hooks(note, lambda nothing: nothing)
            with torch.enable_grad(), cast, keep:
                block(x)
            torch.set_rng_state(now)
        return found[number]

    with saved_tensors_hooks(pack, unpack):
        return block(x)


@exercise.alternative
def checkpointed_by_hooks(block, x):
    return by_hooks(block, x)


@exercise.alternative
def checkpointed_by_a_function(block, x):
    return in_steps(block, x)


@exercise.alternative
def checkpointed_by_torch(block, x):
    return checkpoint(block, x, use_reentrant=False)


@exercise.alternative
def checkpointed_by_a_class_inside(block, x):
    """As in many blogs, with a second input that needs a gradient."""

    class Recompute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, anchor):
            ctx.rng, ctx.cast = torch.get_rng_state(), _as_now()
            ctx.save_for_backward(x)
            with torch.no_grad():
                return block(x)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            now = torch.get_rng_state()
            torch.set_rng_state(ctx.rng)
            with torch.enable_grad(), ctx.cast:
                x = x.detach()
                x.requires_grad = True
                y = block(x)
            torch.set_rng_state(now)
            torch.autograd.backward(y, grad_output)
            return x.grad, None

    return Recompute.apply(x, torch.tensor(0.0, requires_grad=True))


@exercise.alternative
def checkpointed_by_one_iterator(block, x):
    """Autograd asks for them in another order than it puts them aside: a list, not an iterator."""
    kept: list[Tensor] = []
    state, count, cast = torch.get_rng_state(), itertools.count(), _as_now()

    def recompute():
        with torch.random.fork_rng(), cast:
            torch.random.set_rng_state(state)
            hooks = saved_tensors_hooks(lambda t: kept.append(t.data), lambda t: t)
            with torch.set_grad_enabled(True), hooks:
                block(x)

    def unpack(i):
        kept or recompute()
        return kept[i]

    with saved_tensors_hooks(lambda t: next(count), unpack):
        return block(x)
