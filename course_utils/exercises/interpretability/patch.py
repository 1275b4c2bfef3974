"""interpretability.patch: at some places, what a module gave for another text."""

import torch
from torch import Tensor

from course_utils import decoder
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.interpretability import shared

exercise = Exercise(
    "interpretability.patch",
    used_by="the table of layers and places: where does the answer come from?",
    hints=(
        "`module.register_forward_hook(f)`: after the module has run, f is called with it, a tuple "
        "of its arguments, and its output. What f returns takes the place of the output.",
        "Copy the output first, `output.clone()`: what others hold must not change.",
        "A list of places picks them on the tokens' axis: `patched[:, places] = "
        "activation[:, places]`. The same places on both sides.",
        "Return the handle that `register_forward_hook` gives: it ends the patching with the "
        "`with` block.",
    ),
)


def _ids(*shape: int, seed: int = 0) -> Tensor:
    return inputs.integers(*shape, below=shared.VOCABULARY, seed=seed)


def _use(
    part: Part, ids: Tensor, at: str, activation: Tensor, tokens: list[int]
) -> tuple[Tensor, Tensor]:
    model = shared.gpt()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    given, places = activation.detach().clone(), _as_given(tokens)
    kept: list[Tensor] = []
    module = model.get_submodule(at)
    watch = module.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        with shared.until_the_end(exercise.name, part(module, given, places)):
            inside = model(ids)
            again = model(ids)
        if not torch.equal(inside, again):
            raise Wrong("Inside the `with` block the second text that is read is not patched.")
        watch.remove()
        _nothing_else_changed(model, ids, at, kept[0], given, activation)
        shared.unchanged(model, before)
        return inside, model(ids)


def _as_given(tokens: list[int]) -> list[int] | range:
    """A range where the places are one behind the other: any sequence will do."""
    one_by_one = range(tokens[0], tokens[-1] + 1) if tokens else range(0)
    return one_by_one if list(one_by_one) == tokens and len(tokens) > 1 else list(tokens)


def _nothing_else_changed(
    model: decoder.GPT, ids: Tensor, at: str, held: Tensor, given: Tensor, activation: Tensor
) -> None:
    if not torch.equal(given, activation):
        raise Wrong("Your code changes `activation`, which belongs to whoever recorded it.")
    seen: list[Tensor] = []

    def look(place: str, x: Tensor) -> Tensor:
        if place == at:
            seen.append(x.detach())
        return x

    shared.logits_by_torch(model, ids, change=look)
    if not torch.allclose(held, seen[0], atol=1e-4):
        raise Wrong(
            "Your code writes into the module's own output, which others may hold. Change a copy: "
            "`output.clone()`."
        )


def _by_torch(ids: Tensor, at: str, activation: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    model = shared.gpt()

    def patched(place: str, x: Tensor) -> Tensor:
        if place != at:
            return x
        wanted = {range(x.shape[1])[token] for token in tokens}
        columns = [
            activation[:, token] if token in wanted else x[:, token] for token in range(x.shape[1])
        ]
        return torch.stack(columns, dim=1)

    return (
        shared.logits_by_torch(model, ids, change=patched).detach(),
        shared.logits_by_torch(model, ids).detach(),
    )


VALUES = "The logits inside the `with` block", "The logits after it"


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, ids: Tensor, at: str, tokens: list[int], seed: int = 0, point: str = ""
    ) -> Case:
        activation = 2 * inputs.normal(*ids.shape, shared.D_MODEL, seed=20 + seed)
        arguments = {"ids": ids, "at": at, "activation": activation, "tokens": tokens}
        path = at.replace("blocks.0", "blocks[0]").replace("blocks.1", "blocks[1]")
        call = f"with patch(model.{path}, activation, {_as_given(tokens)}): model(ids)"
        return Case(title, arguments, _by_torch, _use, call, VALUES, point)

    any_module = "Any module may be patched whose output has the axes batch, tokens, features."
    from_the_end = "A place may be counted from the end: -1 is the last token, as in any list."
    several = "Several places may be patched, in any order and with others between them."
    none = "No place at all: then nothing is patched."
    every = "All places may be patched: the model then reads nothing of its own text."
    return [
        case("the embedding of one token", _ids(1, 3), "embed", [1]),
        case("a block, one token", _ids(2, 5, seed=1), "blocks.0", [3], 1),
        case("an attention", _ids(2, 4, seed=2), "blocks.1.attention", [2], 2, any_module),
        case("a feed-forward net", _ids(3, 4, seed=3), "blocks.0.feed_forward", [0], 3, any_module),
        case("the last token", _ids(2, 5, seed=4), "blocks.0", [4], 4),
        case("the last token, as -1", _ids(2, 5, seed=13), "blocks.0", [-1], 13, from_the_end),
        case("the last but one", _ids(3, 4, seed=14), "embed", [1, -2], 14, from_the_end),
        case("two places", _ids(2, 6, seed=5), "embed", [1, 4], 5, several),
        case("three places, backwards", _ids(2, 6, seed=6), "blocks.0", [5, 2, 0], 6, several),
        case("places one behind the other", _ids(2, 6, seed=7), "blocks.0", [1, 2, 3], 7, several),
        case("every place", _ids(3, 4, seed=8), "embed", [0, 1, 2, 3], 8, every),
        case("no place", _ids(2, 3, seed=9), "blocks.0", [], 9, none),
        case("as many texts as tokens", _ids(4, 4, seed=10), "blocks.0", [2], 10),
        case(
            "a text of one token",
            _ids(2, 1, seed=11),
            "blocks.0.attention",
            [0],
            11,
            "A text may have one token.",
        ),
    ]


@exercise.holds
def it_ends_when_the_block_fails(part: Part) -> None:
    """An error in the block leaves no hook behind."""
    model, ids = shared.gpt(), _ids(2, 4)
    given = part(model.embed, torch.zeros(2, 4, shared.D_MODEL), [1])
    shared.ends_with_an_error(exercise.name, model, ids, given)


# --- Mistakes ------------------------------------------------------------------------------------


def _after(module, change):
    def replaced(module, args, output):
        return change(output.clone())

    return module.register_forward_hook(replaced)


@exercise.mistake("You patch all places. Only those in `tokens` are those of the other text.")
def all_places(module, activation, tokens):
    return _after(module, lambda output: activation if list(tokens) else output)


@exercise.mistake(
    "You patch rows of the batch. The axes are batch, tokens, features: places are on the second."
)
def rows_of_the_batch(module, activation, tokens):
    def change(output):
        rows = [token for token in tokens if token < len(output)]
        output[rows] = activation[rows]
        return output

    return _after(module, change)


@exercise.mistake(
    "You patch the first text only. Every text of the batch gets its own part of `activation`."
)
def first_text_only(module, activation, tokens):
    def change(output):
        output[0, list(tokens)] = activation[0, list(tokens)]
        return output

    return _after(module, change)


@exercise.mistake(
    "You give all texts what the first one of `activation` has. Each text has its own: "
    "`[:, places]` on both sides."
)
def of_the_first_text(module, activation, tokens):
    def change(output):
        output[:, list(tokens)] = activation[:1, list(tokens)]
        return output

    return _after(module, change)


@exercise.mistake(
    "You add `activation`. A patch stands in the place of what the module gave: assign, with =."
)
def adds(module, activation, tokens):
    def change(output):
        output[:, list(tokens)] += activation[:, list(tokens)]
        return output

    return _after(module, change)


@exercise.mistake(
    "You patch every other place and leave those in `tokens`. It is the other way round."
)
def the_other_places(module, activation, tokens):
    def change(output):
        others = [place for place in range(output.shape[1]) if place not in tokens]
        output[:, others] = activation[:, others]
        return output

    return _after(module, change)


@exercise.mistake(
    "You patch the first of the places only. `tokens` may have several: patch them all."
)
def first_place_only(module, activation, tokens):
    def change(output):
        first = list(tokens)[:1]
        output[:, first] = activation[:, first]
        return output

    return _after(module, change)


@exercise.mistake(
    "You take the places from the beginning of `activation`, one after the other. The same places "
    "are meant on both sides."
)
def from_the_beginning(module, activation, tokens):
    def change(output):
        output[:, list(tokens)] = activation[:, : len(tokens)]
        return output

    return _after(module, change)


@exercise.mistake(
    "You set these places to zero: that is an ablation. A patch puts there what `activation` has."
)
def zeroes(module, activation, tokens):
    def change(output):
        output[:, list(tokens)] = 0.0
        return output

    return _after(module, change)


@exercise.mistake(
    "After the `with` block the patch is still there. Return the handle that "
    "`register_forward_hook` gives: it takes its hook away at the end of the block."
)
def not_restored(module, activation, tokens):
    def change(output):
        output[:, list(tokens)] = activation[:, list(tokens)]
        return output

    _after(module, change)

    return shared.NeverEnds()


# --- Right alternatives --------------------------------------------------------------------------


@exercise.alternative
def by_where(module, activation, tokens):
    wanted = torch.zeros(activation.shape[1], dtype=torch.bool)  # -1 is the last one here, too
    for token in tokens:
        wanted[token] = True

    def hook(module, args, output):
        return torch.where(wanted[:, None], activation, output)

    return module.register_forward_hook(hook)


@exercise.alternative
def by_a_loop(module, activation, tokens):
    def hook(_module, _args, output):
        new = output.detach().clone()
        for row in range(new.shape[0]):
            for token in tokens:
                new[row, token, :] = activation[row, token, :]
        return new

    return module.register_forward_hook(hook)


@exercise.alternative
def by_index_copy(module, activation, tokens):
    places = torch.tensor(list(tokens), dtype=torch.long) % activation.shape[1]

    def hook(_module, _args, output):
        return output.index_copy(1, places, activation.index_select(1, places))

    return module.register_forward_hook(hook)


@exercise.alternative
def by_a_generator(module, activation, tokens):
    import contextlib

    @contextlib.contextmanager
    def patched():
        def hook(module, args, output):
            output = output.clone()
            output[:, list(tokens)] = activation[:, list(tokens)]
            return output

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    return patched()
