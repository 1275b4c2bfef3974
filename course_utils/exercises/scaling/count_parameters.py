"""scaling.count_parameters: how many numbers a model holds."""

from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.scaling import shared
from course_utils.scaling import Sizes

exercise = Exercise(
    "scaling.count_parameters",
    used_by="`memory_report`, the calculator, and the axis of every scaling law",
    hints=(
        "Write down the shape of every table, matrix and vector of one block. `print(model)` of a "
        "small `decoder.gpt` shows them. A matrix [a, b] has a · b numbers.",
        "Attention has four matrices d · d, for queries, keys, values and output; feed-forward has "
        "d · 4d and 4d · d. Each has a bias, as long as what it gives.",
        "A norm has a gain and a shift, d numbers each. There are two norms in each block and one "
        "at the end.",
        "The embedding is two tables: `vocabulary` rows for words, `context` rows for places. The "
        "head is as large as the first, or 0 where `sizes.tied`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, sizes: Sizes, point: str = "") -> Case:
        call = "count_parameters(sizes)"
        return Case(title, {"sizes": sizes}, shared.counted, shown=call, point=point)

    tied = (
        "Where `sizes.tied`, the head is the table of token vectors, which is counted already: its "
        'entry "head" is 0, but it is there.'
    )
    exact = "The counts are whole numbers, exact however large: float32 has 7 digits."
    return [
        case("a small model", Sizes(50, 12, 3, 2, 9)),
        case("one block, one head", Sizes(31, 10, 1, 1, 17)),
        case("more places than words", Sizes(7, 8, 2, 5, 40)),
        case("width, heads and depth are alike", Sizes(4, 4, 4, 4, 4)),
        case("one of everything", Sizes(1, 1, 1, 1, 1)),
        case("a head that is tied to the table", Sizes(50, 12, 3, 2, 9, tied=True), tied),
        case("deeper, and tied", Sizes(23, 20, 5, 7, 6, tied=True), tied),
        case("many words, and a long context", shared.LARGE, exact),
    ]


@exercise.mistake(
    "Your total is 2 · layers · d². One block has 12 · d²: 4 in attention, 8 in "
    "feed-forward. Add up what you counted."
)
def two_l_d_squared(sizes):
    return {**shared.counted(sizes), "total": 2 * sizes.n_layers * sizes.d_model**2}


@exercise.mistake(
    "Your total is 12 · layers · d². That is the matrices of the blocks alone: biases, "
    "norms, tables and head are learned too. Add up what you counted."
)
def twelve_l_d_squared(sizes):
    return {**shared.counted(sizes), "total": 12 * sizes.n_layers * sizes.d_model**2}


def _recounted(sizes, **wrong):
    """The right counts but for some of them, and their sum."""
    right = shared.counted(sizes)
    return shared.with_total({part: wrong.get(part, right[part]) for part in list(right)[:-1]})


@exercise.mistake(
    "You leave the feed-forward nets out. They hold two thirds of a block: d · 4d on the "
    "way up, and as much on the way down."
)
def forgot_feed_forward(sizes):
    return _recounted(sizes, feed_forward=0)


@exercise.mistake(
    "You count a tied head. It is the table of token vectors, used once more: those "
    "numbers are in the embedding already."
)
def tied_counted_twice(sizes):
    return _recounted(sizes, head=sizes.vocabulary * sizes.d_model)


@exercise.mistake(
    "You never count the head. Unless it is tied, it has its own vector for every word: "
    "vocabulary · d."
)
def head_never_counted(sizes):
    return _recounted(sizes, head=0)


@exercise.mistake(
    "You count the head where it is tied, and leave it out where it is not. Tied means "
    "that it has no numbers of its own."
)
def tied_the_wrong_way_round(sizes):
    return _recounted(sizes, head=sizes.vocabulary * sizes.d_model if sizes.tied else 0)


@exercise.mistake("You give the head a bias for every word. This head has none.")
def head_with_biases(sizes):
    head = 0 if sizes.tied else sizes.vocabulary * (sizes.d_model + 1)
    return _recounted(sizes, head=head)


@exercise.mistake(
    "You leave the norms out. Each has a gain and a shift, 2 · d numbers: two norms in "
    "every block, and one at the end."
)
def forgot_norms(sizes):
    return _recounted(sizes, norms=0)


def _matrices(sizes):
    matrix = sizes.n_layers * sizes.d_model**2
    return {"attention": 4 * matrix, "feed_forward": 8 * matrix}


@exercise.mistake(
    "You count the matrices of attention without their biases: 4 · d more in each block."
)
def forgot_biases_of_attention(sizes):
    return _recounted(sizes, attention=_matrices(sizes)["attention"])


@exercise.mistake(
    "You count the matrices of feed-forward without their biases: 4d + d more in each block."
)
def forgot_biases_of_feed_forward(sizes):
    return _recounted(sizes, feed_forward=_matrices(sizes)["feed_forward"])


@exercise.mistake("You count matrices only. Biases and norms are vectors, and learned too.")
def matrices_only(sizes):
    return _recounted(sizes, **_matrices(sizes), norms=0)


@exercise.mistake(
    "You count the biases of one block. Every block has its own: put parentheses around "
    "what you multiply by `n_layers`."
)
def biases_of_one_block(sizes):
    biases = {"attention": 4 * sizes.d_model, "feed_forward": 5 * sizes.d_model}
    return _recounted(sizes, **{part: n + biases[part] for part, n in _matrices(sizes).items()})


@exercise.mistake(
    "You count the matrices but not their biases: 4 · d a block in attention, and 4d + d "
    "in feed-forward."
)
def forgot_biases(sizes):
    return _recounted(sizes, **_matrices(sizes))


@exercise.mistake(
    "You count three matrices in attention. There is a fourth, `w_o`, that mixes what the "
    "heads found."
)
def forgot_w_o(sizes):
    return _recounted(sizes, attention=sizes.n_layers * 3 * sizes.d_model * (sizes.d_model + 1))


@exercise.mistake(
    "You multiply by the number of heads. The heads share the d columns of a matrix: more "
    "heads are narrower heads, not more numbers."
)
def every_head_is_as_wide_as_the_model(sizes):
    return _recounted(sizes, attention=sizes.n_heads * shared.counted(sizes)["attention"])


@exercise.mistake(
    "You divide by the number of heads: that is the share of one head. All of them are learned."
)
def one_head_counted(sizes):
    return _recounted(sizes, attention=shared.counted(sizes)["attention"] // sizes.n_heads)


@exercise.mistake(
    "Your embedding lacks the positions. They are learned too: one vector for each of the "
    "`context` places."
)
def forgot_positions(sizes):
    return _recounted(sizes, embedding=sizes.vocabulary * sizes.d_model)


@exercise.mistake("You forget the norm after the last block: 2 · d more.")
def forgot_last_norm(sizes):
    return _recounted(sizes, norms=sizes.n_layers * 4 * sizes.d_model)


@exercise.mistake(
    "You count one norm in each block. There are two: before attention and before feed-forward."
)
def one_norm_in_a_block(sizes):
    return _recounted(sizes, norms=(sizes.n_layers + 1) * 2 * sizes.d_model)


@exercise.mistake("You count d numbers in a norm. It has a gain and a shift: 2 · d.")
def forgot_shifts(sizes):
    return _recounted(sizes, norms=(2 * sizes.n_layers + 1) * sizes.d_model)


@exercise.mistake(
    "You count the attention and feed-forward of one block. There are `n_layers`, and each "
    "has its own."
)
def one_layer_only(sizes):
    right = shared.counted(sizes)
    parts = ("attention", "feed_forward")
    return _recounted(sizes, **{part: right[part] // sizes.n_layers for part in parts})


@exercise.mistake("You count one block and the last norm. There are `n_layers` blocks.")
def one_block_only(sizes):
    right = shared.counted(sizes)
    parts = {part: right[part] // sizes.n_layers for part in ("attention", "feed_forward")}
    return _recounted(sizes, **parts, norms=6 * sizes.d_model)


@exercise.mistake(
    "Your feed-forward net goes up to 4d and never comes down. Its second matrix has "
    "4d · d numbers, and its bias d."
)
def forgot_down(sizes):
    return _recounted(sizes, feed_forward=sizes.n_layers * 4 * sizes.d_model * (sizes.d_model + 1))


@exercise.mistake("Your feed-forward net stays d wide. In between it is four times as wide.")
def hidden_not_wider(sizes):
    return _recounted(sizes, feed_forward=sizes.n_layers * 2 * sizes.d_model * (sizes.d_model + 1))


@exercise.mistake(
    "Both your biases in feed-forward have d numbers. The first one is added to 4d "
    "numbers, and has 4d."
)
def biases_of_one_width(sizes):
    wrong = sizes.n_layers * (8 * sizes.d_model**2 + 2 * sizes.d_model)
    return _recounted(sizes, feed_forward=wrong)


@exercise.mistake(
    "Your total leaves the embedding out. Some papers count so, and say so; here the total "
    "is everything that is learned."
)
def total_without_tables(sizes):
    right = shared.counted(sizes)
    return {**right, "total": right["total"] - right["embedding"]}


@exercise.mistake('Your counts have no sum. Add it as the entry "total".')
def forgot_total(sizes):
    return {part: n for part, n in shared.counted(sizes).items() if part != "total"}


exercise.alternative(shared.count_by_shapes)


@exercise.alternative
def count_by_layers(sizes):
    width, total = sizes.d_model, 0
    counts = dict.fromkeys(("embedding", "attention", "feed_forward", "norms", "head"), 0)
    counts["embedding"] = sizes.vocabulary * width + sizes.context * width
    for _ in range(sizes.n_layers):
        counts["attention"] += 4 * (width + 1) * width
        counts["feed_forward"] += (width + 1) * 4 * width + (4 * width + 1) * width
        counts["norms"] += 4 * width
    counts["norms"] += 2 * width
    counts["head"] += (not sizes.tied) * sizes.vocabulary * width
    for count in counts.values():
        total += count
    return dict(total=total, **counts)


@exercise.alternative
def count_by_twelve(sizes):
    d, blocks = sizes.d_model, sizes.n_layers
    tables = d * (sizes.vocabulary + sizes.context)
    head = int(not sizes.tied) * d * sizes.vocabulary
    rest = 12 * blocks * d**2 + 13 * blocks * d + 2 * d
    attention, norms = 4 * blocks * d * (1 + d), 4 * blocks * d + 2 * d
    return {
        "embedding": tables,
        "attention": attention,
        "feed_forward": rest - attention - norms,
        "norms": norms,
        "head": head,
        "total": tables + head + rest,
    }
