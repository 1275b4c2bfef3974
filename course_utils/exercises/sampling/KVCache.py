"""sampling.KVCache: keys and values that were computed already."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "sampling.KVCache",
    used_by="`CachedModel`, in every layer",
    hints=(
        "`self.length` tokens are in the cache. The new ones go to the places from there on: "
        "`start, end = self.length, self.length + key.shape[2]`.",
        "If `end` is above `self.context`, raise a ValueError before anything is changed.",
        "At the first call take room for all tokens: `key.new_empty(rows, n_heads, self.context, "
        "d_head)`, and the same for the values. Then the new tokens are written into it: "
        "`self.key[:, :, start:end] = key`.",
        "Remember the new length, and return what is filled: `self.key[:, :, :end]` and "
        "`self.value[:, :, :end]`.",
    ),
)


@torch.no_grad()
def _read_in_pieces(
    part: Part, key: Tensor, value: Tensor, context: int, cuts: tuple, rows: tuple | None
) -> Any:
    """Give keys and values to a new cache, some tokens at a time; rows change before the last."""
    cache, start, seen = part(context), 0, []
    for end in cuts:
        if rows and end == cuts[-1]:
            chosen = torch.tensor(rows)
            cache.select(chosen)
            key, value = key[chosen], value[chosen]
        pair = cache.update(key[:, :, start:end], value[:, :, start:end])
        if pair is None:
            return None
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise Wrong("`update` returns two tensors: the keys and the values of all tokens.")
        if cache.length != end:
            raise Wrong(f"{end} tokens were given so far, but `length` is {cache.length}.")
        seen += [each.clone() for each in pair]
        start = end
    return (*seen, cache.length)


def _cut_by_hand(
    key: Tensor, value: Tensor, context: int, cuts: tuple, rows: tuple | None
) -> tuple:
    """What was read so far is a piece of what there is."""
    seen = []
    for end in cuts:
        chosen = list(rows) if rows and end == cuts[-1] else list(range(len(key)))
        seen += [each.detach()[chosen, :, :end] for each in (key, value)]
    return (*seen, cuts[-1])


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, shape: tuple, context: int, cuts: tuple, rows: tuple | None = None,
        dtype: torch.dtype = torch.float32, point: str = "",
    ) -> Case:  # fmt: skip
        n_texts, n_heads, tokens, d_head = shape
        joined = (n_texts, tokens, n_heads, d_head)  # a view of it, as `split_heads` gives one
        key, value = (
            inputs.normal(*joined, seed=seed, dtype=dtype).transpose(1, 2) for seed in (0, 1)
        )
        arguments = {"key": key, "value": value, "context": context, "cuts": cuts, "rows": rows}
        calls = f"KVCache({context}), then update with the tokens up to {', '.join(map(str, cuts))}"
        each = [f"What `update` gives as {name}" for _ in cuts for name in ("keys", "values")]
        values = (*each, "`length`")
        return Case(title, arguments, _cut_by_hand, _read_in_pieces, calls, values, point)

    shape = (2, 3, 7, 4)
    full = (
        "`context` tokens fit: a cache that is exactly full is no error. Refuse with `>`, not with "
        "`>=`."
    )
    chosen = (
        "`select` takes rows of `self.key` and `self.value`, and there may be more of them "
        "afterwards, or fewer: keep everything in these two, and nothing of the rows elsewhere."
    )
    dtype = (
        "The room has the dtype of the keys and values, as `key.new_empty(…)` has; "
        "`torch.empty(…)` makes float32."
    )
    return [
        case("one token after the other", (1, 1, 3, 2), 5, (1, 2, 3)),
        case("several tokens, then one by one", shape, 9, (4, 5, 6, 7)),
        case("all at once", shape, 9, (7,)),
        case("everything of the same size", (4, 4, 4, 4), 5, (2, 3, 4)),
        case("until it is full", shape, 7, (2, 5, 7), point=full),
        case("full at once", shape, 7, (7,), point=full),
        case("rows are dropped and doubled", shape, 8, (3, 5, 6), rows=(1, 1, 0), point=chosen),
        case("one row becomes several", (1, 2, 5, 3), 6, (4, 5), rows=(0, 0, 0), point=chosen),
        case("one row is left", shape, 8, (3, 4), rows=(1,), point=chosen),
        case("float64", shape, 9, (2, 7), dtype=torch.float64, point=dtype),
        case("bfloat16", shape, 9, (2, 7), dtype=torch.bfloat16, point=dtype),
    ]


@exercise.holds
def _says_when_it_is_full(part: Part) -> None:
    """A sentence where more tokens come than there is room for, and nothing is lost."""
    new = inputs.normal(1, 2, 3, 4)
    for context, before in ((5, 3), (2, 0)):
        cache: Any = part(context)
        if before:
            cache.update(new, new)
        try:
            cache.update(new, new)
        except ValueError:
            if cache.length == before:
                continue
            raise Wrong(
                "Your cache counts tokens that it has no room for. Raise the ValueError before "
                "anything is changed."
            ) from None
        except (RuntimeError, IndexError) as error:
            raise Wrong(
                f"With room for {context} tokens, {before} tokens and then 3 more raise an error, "
                "but no ValueError. The old tokens and the new ones together must fit: compare "
                "`self.length + key.shape[2]` with `self.context` first."
            ).with_traceback(error.__traceback__) from None
        raise Wrong(
            f"With room for {context} tokens, {before} tokens and then 3 more are taken without a "
            "word. Raise a ValueError that says how many there are and how many fit."
        )
    part(3).update(new, new)


@exercise.holds
def _shares_nothing(part: Part) -> None:
    """Two layers have two caches."""
    one, other, new = part(4), part(4), inputs.normal(1, 2, 3, 4)
    one.update(new, new)
    if other.length:
        raise Wrong("Two caches share their length: keep everything in `self`.")


class _Cache:
    """The cache in steps, which the mistakes below replace one by one."""

    def __init__(self, context):
        self.context = context
        self.length = 0
        self.key = self.value = torch.empty(0)

    def update(self, key, value):
        start, end = self.length, self.length + key.shape[2]
        self.check(end)
        if self.needs_room(start):
            self.key, self.value = (self.room(each) for each in (key, value))
        for room, new in ((self.key, key), (self.value, value)):
            self.write(room, new, start, end)
        self.length = self.advance(start, end)
        return self.read(start, end)

    def check(self, end):
        if end > self.context:
            raise ValueError(f"{end} tokens, but context is {self.context}")

    def needs_room(self, start):
        return start == 0

    def room(self, new):
        rows, n_heads, _, d_head = new.shape
        return new.new_zeros(rows, n_heads, self.context, d_head)

    def write(self, room, new, start, end):
        room[:, :, start:end] = new

    def advance(self, start, end):
        return end

    def read(self, start, end):
        return self.key[:, :, :end], self.value[:, :, :end]

    def select(self, rows):
        self.key, self.value = self.key[rows], self.value[rows]


@exercise.mistake(
    "You write new tokens over the first ones. They belong behind what is there: from "
    "`self.length` on."
)
class Overwrites(_Cache):
    def write(self, room, new, start, end):
        room[:, :, : end - start] = new


@exercise.mistake(
    "You return the whole room, with places that nothing was written to. Return the first "
    "`end` of them."
)
class ReturnsWholeBuffer(_Cache):
    def read(self, start, end):
        return self.key, self.value


@exercise.mistake("You do not change `self.length`, so the next token is written over this one.")
class DoesNotAdvance(_Cache):
    def advance(self, start, end):
        return start


@exercise.mistake("You add 1 to the length. Several tokens may come at once: add `key.shape[2]`.")
class AdvancesByOne(_Cache):
    def advance(self, start, end):
        return start + 1


@exercise.mistake("You make the length that of the new tokens. Add it to what was there.")
class LengthOfTheNew(_Cache):
    def advance(self, start, end):
        return end - start


@exercise.mistake(
    "Keys and values have one room with two names, `self.key = self.value = …`: what is written "
    "last overwrites the other. Take room twice."
)
class OneRoomForBoth(_Cache):
    def update(self, key, value):
        if self.length == 0:
            self.key = self.value = self.room(key)
        return super().update(key, value)

    def needs_room(self, start):
        return False


@exercise.mistake(
    "The length moves on for the keys, and once more for the values, which are written behind "
    "their places. Both go to the same places: move it on once, after both."
)
class AdvancesTwice(_Cache):
    def update(self, key, value):
        self.check(self.length + key.shape[2])
        if self.length == 0:
            self.key, self.value = self.room(key), self.room(value)
        return self.put(self.key, key), self.put(self.value, value)

    def put(self, room, new):
        start, self.length = self.length, self.length + new.shape[2]
        room[:, :, start : self.length] = new
        return room[:, :, : self.length]


@exercise.mistake("You return the new tokens alone. Attention needs all that were read.")
class ReturnsTheNew(_Cache):
    def read(self, start, end):
        return self.key[:, :, start:end], self.value[:, :, start:end]


@exercise.mistake("You return what was there before. A new token looks at itself, too.")
class ReturnsTheOld(_Cache):
    def read(self, start, end):
        return self.key[:, :, :start], self.value[:, :, :start]


@exercise.mistake("You return values and keys. First the keys.")
class KeyAndValueSwapped(_Cache):
    def read(self, start, end):
        return self.value[:, :, :end], self.key[:, :, :end]


@exercise.mistake("You return the keys twice. The second tensor holds the values.")
class KeysTwice(_Cache):
    def read(self, start, end):
        return self.key[:, :, :end], self.key[:, :, :end]


@exercise.mistake(
    "You take new room at every call, and what was in it is lost. Take it once, while the "
    "length is 0."
)
class RoomAgainEveryTime(_Cache):
    def needs_room(self, start):
        return True


class _Joined(_Cache):
    """New tokens are joined to the others, along an axis that the mistakes choose."""

    axis = 2

    def update(self, key, value):
        self.check(self.length + key.shape[2])
        self.key = self.join(self.key, key)
        self.value = self.join(self.value, value)
        self.length += key.shape[2]
        return self.key, self.value

    def join(self, old, new):
        return torch.cat((old, new), dim=self.axis) if self.length else new


@exercise.mistake("You join along axis 1, the heads. Tokens are axis 2.")
class JoinedAlongHeads(_Joined):
    axis = 1


@exercise.mistake("You join along axis 0, as if other texts came. Tokens are axis 2.")
class JoinedAlongRows(_Joined):
    axis = 0


@exercise.mistake("You join along the features, axis 3. Tokens are axis 2.")
class JoinedAlongFeatures(_Joined):
    axis = 3


@exercise.mistake("You put new tokens in front of the others. They come behind them.")
class NewOnesFirst(_Joined):
    def join(self, old, new):
        return torch.cat((new, old), dim=2) if self.length else new


@exercise.mistake(
    "Your room is always float32. `key.new_empty(…)` takes the type and the device of the keys."
)
class FloatRoom(_Cache):
    def room(self, new):
        rows, n_heads, _, d_head = new.shape
        return torch.zeros(rows, n_heads, self.context, d_head)


@exercise.alternative
class CacheWithNarrow(_Cache):
    def write(self, room, new, start, end):
        room.narrow(2, start, end - start).copy_(new)

    def read(self, start, end):
        return self.key.narrow(2, 0, end), self.value.narrow(2, 0, end)


@exercise.alternative
class CacheByJoining(_Joined):
    pass


@exercise.alternative
class CacheByPlaces(_Cache):
    def write(self, room, new, start, end):
        room.index_copy_(2, torch.arange(start, end), new)
