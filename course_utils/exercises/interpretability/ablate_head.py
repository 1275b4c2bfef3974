"""interpretability.ablate_head: take one head away, and see what is missing."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.interpretability import shared

exercise = Exercise(
    "interpretability.ablate_head",
    used_by="every ablation: which head does the answer need?",
    hints=(
        "The output map `w_o` of a layer's attention is given the heads side by side, "
        "[batch, tokens, n_heads · d_head]. Change what it is given, before it works.",
        "`w_o.register_forward_pre_hook(f)`: before `w_o` runs, f is called with the module and a "
        "tuple of its arguments. What f returns is used in their place. It gives a handle: return "
        "that.",
        "In f: `heads = args[0].unflatten(-1, (n_heads, -1)).clone()` has an axis for the heads. "
        "`n_heads` is an attribute of the attention, `model.blocks[layer].attention`.",
        "Set `heads[..., head, :]` to 0.0, or to `replacement`, and return `heads.flatten(-2)`.",
    ),
)


def _ids(*shape: int, seed: int = 0) -> Tensor:
    return inputs.integers(*shape, below=shared.VOCABULARY, seed=seed)


def _use(
    part: Part,
    ids: Tensor,
    ablated: list[tuple[int, int]],
    replacement: Tensor | None,
    n_heads: int,
) -> tuple[Tensor, Tensor]:
    model = shared.gpt(n_heads)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    given = None if replacement is None else replacement.detach().clone()
    with torch.no_grad():
        inside = _inside(part, model, ids, list(ablated), given)
        shared.unchanged(model, before)
        _others_are_left(part, model, ids, ablated[0])
        after = model(ids)
    if given is not None and replacement is not None and not torch.equal(given, replacement):
        raise Wrong("Your code changes `replacement`, which belongs to whoever gave it.")
    return inside, after


def _inside(
    part: Part, model: Any, ids: Tensor, ablated: list[tuple[int, int]], given: Tensor | None
) -> Tensor:
    """The logits while all of these heads are ablated."""
    if not ablated:
        first, second = model(ids), model(ids)
        if not torch.equal(first, second):
            raise Wrong("Inside the `with` block the second text that is read is not ablated.")
        return second
    layer, head = ablated[0]
    with shared.until_the_end(exercise.name, part(model, layer, head, given)):
        return _inside(part, model, ids, ablated[1:], given)


def _others_are_left(part: Part, model: Any, ids: Tensor, ablated: tuple[int, int]) -> None:
    """Wrong where what another hook holds of the heads is overwritten."""
    held: list[tuple[Tensor, Tensor]] = []
    output_map = model.blocks[ablated[0]].attention.w_o

    def hold(module: Any, args: tuple[Tensor]) -> None:
        held.append((args[0], args[0].clone()))

    with output_map.register_forward_pre_hook(hold), part(model, *ablated):
        model(ids)
    if any(not torch.equal(now, then) for now, then in held):
        raise Wrong(
            "Your code writes into what `w_o` was given, which another hook may hold, to record "
            "it. Change a copy: `.clone()`. (`.contiguous()`, `reshape` and `view` make none.)"
        )


def _by_torch(
    ids: Tensor, ablated: list[tuple[int, int]], replacement: Tensor | None, n_heads: int
) -> tuple[Tensor, Tensor]:
    model = shared.gpt(n_heads)

    def without(layer: int, heads: Tensor) -> Tensor:
        heads = heads.clone()
        for at, head in ablated:
            if at == layer:
                heads[:, :, head] = 0.0 if replacement is None else replacement
        return heads

    return (
        shared.logits_by_torch(model, ids, without).detach(),
        shared.logits_by_torch(model, ids).detach(),
    )


VALUES = "The logits inside the `with` block", "The logits after it"


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        *ablated: tuple[int, int],
        replacement: Tensor | None = None,
        n_heads: int = 3,
        point: str = "",
    ) -> Case:
        arguments = {
            "ids": ids,
            "ablated": list(ablated),
            "replacement": replacement,
            "n_heads": n_heads,
        }
        given = "" if replacement is None else ", replacement"
        opened = ", ".join(f"ablate_head(model, {at}, {head}{given})" for at, head in ablated)
        call = f"with {opened}: model(ids)"
        return Case(title, arguments, _by_torch, _use, call, VALUES, point)

    mean = "A mean vector [d_head] takes the head's place at every token of every text."
    another = (
        "A replacement [batch, tokens, d_head] has a vector for each token: each goes to its own "
        "place."
    )
    several = (
        "Several heads may be ablated at once, in one layer too: each hook changes its own head, "
        "in what the hook before it has left, and ends alone."
    )
    edges = "Heads are counted from 0: the first and the last are heads like the others."
    both = "Nothing tells layers from heads but their order: first the layer, then the head."
    d_head = shared.D_MODEL // 3
    return [
        case("a head of the first layer", _ids(1, 3), (0, 1)),
        case("a head of the second", _ids(2, 5, seed=1), (1, 0), point=both),
        case("the last head", _ids(2, 4, seed=2), (0, 2), point=edges),
        case("the first head", _ids(3, 4, seed=3), (0, 0), point=edges),
        case("a mean", _ids(2, 4, seed=4), (0, 1), replacement=inputs.normal(d_head), point=mean),
        case(
            "another mean, the second layer",
            _ids(3, 2, seed=5),
            (1, 2),
            replacement=inputs.normal(d_head, seed=1),
            point=mean,
        ),
        case(
            "from another text",
            _ids(2, 5, seed=6),
            (0, 2),
            replacement=inputs.normal(2, 5, d_head, seed=2),
            point=another,
        ),
        case(
            "from another text, the second layer",
            _ids(3, 4, seed=7),
            (1, 1),
            replacement=inputs.normal(3, 4, d_head, seed=3),
            point=another,
        ),
        case("two heads of one layer", _ids(2, 4, seed=8), (0, 0), (0, 2), point=several),
        case("heads of two layers", _ids(2, 4, seed=9), (1, 1), (0, 1), point=several),
        case("all heads of a layer", _ids(1, 4, seed=8), (0, 0), (0, 1), (0, 2), point=several),
        case(
            "two heads, one mean",
            _ids(2, 3, seed=10),
            (1, 0),
            (1, 2),
            replacement=inputs.normal(d_head, seed=4),
            point=several,
        ),
        case(
            "other heads: 2",
            _ids(2, 3, seed=11),
            (1, 1),
            n_heads=2,
            point="The number of heads is `attention.n_heads`: models differ in it.",
        ),
        case("one token", _ids(2, 1, seed=12), (0, 1), point="A text may have one token."),
        case(
            "one head", _ids(2, 3, seed=13), (0, 0), n_heads=1, point="A layer may have one head."
        ),
    ]


@exercise.holds
def it_ends_when_the_block_fails(part: Part) -> None:
    """An error in the block leaves no hook behind."""
    model, ids = shared.gpt(), _ids(2, 4)
    shared.ends_with_an_error(exercise.name, model, ids, part(model, 0, 1))


# --- Mistakes ------------------------------------------------------------------------------------


def _before_w_o(model, layer, change):
    attend = model.blocks[layer].attention

    def replaced(module, args):
        heads = args[0].unflatten(-1, (attend.n_heads, -1)).clone()
        change(heads)
        return heads.flatten(-2)

    return attend.w_o.register_forward_pre_hook(replaced)


def _put(head, replacement):
    def change(heads):
        heads[..., head, :] = 0.0 if replacement is None else replacement

    return change


@exercise.mistake(
    "You change what comes out of `w_o`. There the heads are mixed: its columns belong to no head. "
    "Change what `w_o` is given, with `register_forward_pre_hook`."
)
def ablates_after_w_o(model, layer, head, replacement=None):
    attend = model.blocks[layer].attention

    def replaced(module, args, output):
        heads = output.unflatten(-1, (attend.n_heads, -1)).clone()
        _put(head, replacement)(heads)
        return heads.flatten(-2)

    return attend.w_o.register_forward_hook(replaced)


@exercise.mistake(
    "You take every n_heads-th number. The heads stand side by side, each with d_head numbers in a "
    "row: `unflatten(-1, (n_heads, -1))`, then `[..., head, :]`."
)
def takes_every_nth(model, layer, head, replacement=None):
    attend = model.blocks[layer].attention

    def replaced(module, args):
        heads = args[0].unflatten(-1, (-1, attend.n_heads)).clone()
        heads[..., head] = 0.0 if replacement is None else replacement
        return heads.flatten(-2)

    return attend.w_o.register_forward_pre_hook(replaced)


@exercise.mistake("You ablate the same head in every layer. Only that of `layer` is meant.")
def in_every_layer(model, layer, head, replacement=None):
    last = None
    handles = [
        _before_w_o(model, number, _put(head, replacement)) for number in range(len(model.blocks))
    ]

    class Together:
        def __enter__(self):
            return last

        def __exit__(self, *_):
            for handle in handles:
                handle.remove()

    return Together()


@exercise.mistake("You do not use `replacement`. Where it is given, it stands in the head's place.")
def always_zero(model, layer, head, replacement=None):
    return _before_w_o(model, layer, _put(head, None))


@exercise.mistake(
    "You add `replacement` to what the head says. It stands in its place: what the head says goes."
)
def adds_the_replacement(model, layer, head, replacement=None):
    def change(heads):
        if replacement is None:
            heads[..., head, :] = 0.0
        else:
            heads[..., head, :] += replacement

    return _before_w_o(model, layer, change)


@exercise.mistake("You keep this head and take the others away. It is this one that is ablated.")
def keeps_this_one_only(model, layer, head, replacement=None):
    def change(heads):
        kept = heads[..., head, :].clone()
        heads[:] = 0.0 if replacement is None else replacement[..., None, :]
        heads[..., head, :] = kept

    return _before_w_o(model, layer, change)


@exercise.mistake(
    "You change the last token only. The head's output is replaced at every token: later layers "
    "read all of them."
)
def last_token_only(model, layer, head, replacement=None):
    def change(heads):
        new = torch.zeros(()) if replacement is None else replacement
        heads[:, -1, head] = new[:, -1] if new.ndim == 3 else new

    return _before_w_o(model, layer, change)


@exercise.mistake(
    "After the `with` block the head is still ablated. Return the handle that "
    "`register_forward_pre_hook` gives: it takes its hook away at the end of the block."
)
def not_restored(model, layer, head, replacement=None):
    _before_w_o(model, layer, _put(head, replacement))

    return shared.NeverEnds()


@exercise.mistake(
    "You take the head's part of the values away, before the weights mix them: zeros mixed are "
    "zeros, but a replacement is then mixed, too. Change what `w_o` is given."
)
def changes_the_values(model, layer, head, replacement=None):
    attend = model.blocks[layer].attention

    def replaced(module, args, output):
        values = output.unflatten(-1, (attend.n_heads, -1)).clone()
        _put(head, replacement)(values)
        return values.flatten(-2)

    return attend.w_v.register_forward_hook(replaced)


@exercise.mistake(
    "You set the head's queries to zero. It then looks at all tokens alike, and still says "
    "something: the mean of their values. Change what `w_o` is given."
)
def zeroes_weights_not_output(model, layer, head, replacement=None):
    attend = model.blocks[layer].attention

    def replaced(module, args, output):
        queries = output.unflatten(-1, (attend.n_heads, -1)).clone()
        queries[..., head, :] = 0.0
        return queries.flatten(-2)

    return attend.w_q.register_forward_hook(replaced)


# --- Right alternatives --------------------------------------------------------------------------


@exercise.alternative
def by_columns(model, layer, head, replacement=None):
    attend = model.blocks[layer].attention

    def hook(module, args):
        x = args[0].clone()
        width = x.shape[-1] // attend.n_heads
        columns = slice(head * width, (head + 1) * width)
        x[..., columns] = 0 if replacement is None else replacement
        return (x,)

    return attend.w_o.register_forward_pre_hook(hook)


class _Ablation:
    """A context manager with a method in the place of a hook."""

    def __init__(self, model, layer, head, replacement=None):
        self.attend = model.blocks[layer].attention
        self.head, self.replacement = head, replacement

    def __enter__(self):
        self.handle = self.attend.w_o.register_forward_pre_hook(self.changed)
        return self

    def changed(self, module, args):
        pieces = list(args[0].chunk(self.attend.n_heads, dim=-1))
        old = pieces[self.head]
        new = torch.zeros_like(old) if self.replacement is None else self.replacement
        pieces[self.head] = new.expand_as(old)
        return (torch.cat(pieces, dim=-1),)

    def __exit__(self, *problem):
        self.handle.remove()


@exercise.alternative
def by_a_class(model, layer, head, replacement=None):
    return _Ablation(model, layer, head, replacement)


@exercise.alternative
def by_a_generator(model, layer, head, replacement=None):
    import contextlib

    @contextlib.contextmanager
    def ablated():
        attend = model.blocks[layer].attention
        keep = torch.ones(attend.n_heads, 1)
        keep[head] = 0

        def hook(module, args):
            heads = args[0].unflatten(-1, (attend.n_heads, -1))
            new = 0.0 if replacement is None else replacement.unsqueeze(-2)
            return torch.where(keep.bool(), heads, new).flatten(-2)

        handle = attend.w_o.register_forward_pre_hook(hook)
        try:
            yield model
        finally:
            handle.remove()

    return ablated()
