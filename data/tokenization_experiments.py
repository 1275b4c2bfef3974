"""Run the experiments of notebook 10 that take too long for it, and write down what came out.

COURSE_UTILS_PARTS=reference python data/tokenization_experiments.py models spaces spelling sums

The results go to tokenization_experiments.json beside this script. The models of `models` and
`spaces` are GPTs with equal blocks that learn the docstrings of Python's standard library,
`corpora.docstrings`; those of `spelling` and `sums` learn one small task each.
"""

import platform
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils import decoder, modern, scaling, tokenization, training
from course_utils.corpora import docstrings
from course_utils.corpora.text import Characters, Text, crops
from course_utils.runs import baselines, kernels, optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
D_MODEL, N_HEADS, N_LAYERS = 96, 4, 2
N_ROWS, N_TOKENS = 8, 128
FLOPS = 8e11  # for each model: a quarter of a minute of one core

Coder = Characters | tokenization.Tokenizer


def coders(text: Text) -> dict[str, Coder]:
    """The tokenizers that are compared. All but the characters have seen the training text only."""
    return {
        "characters": Characters.of(text.training + text.validation),
        "bytes": tokenization.Bytes(),
        "BPE 1,024": tokenization.BPE.train(text.training, 1024),
        "BPE 4,096": tokenization.BPE.train(text.training, 4096),
        "words 4,096": tokenization.Words.train(text.training, 4096),
    }


def left_out(coder: Coder, text: Text) -> float:
    """Nats to spell the words that are [UNK] to a tokenizer of words; 0 for others."""
    if not isinstance(coder, tokenization.Words):
        return 0.0
    known = set(coder.vocabulary)
    unknown = [word for word in tokenization.pretokenize(text.validation) if word not in known]
    rare = [word for word in set(tokenization.pretokenize(text.training)) if word not in known]
    return baselines.spelling(unknown, sorted(rare))


def rows_of(ids: Int[Tensor, " all"]) -> Int[Tensor, "rows tokens+1"]:
    """The text in rows one after the other; the last token of each begins the next."""
    n_rows = (len(ids) - 1) // N_TOKENS
    return ids[: n_rows * N_TOKENS + 1].unfold(0, N_TOKENS + 1, N_TOKENS)


@torch.no_grad()
def loss_on(model: decoder.GPT, ids: Int[Tensor, " all"]) -> float:
    """Nats a token."""
    return training.evaluate(
        model.eval(), [decoder.shift_targets(rows) for rows in rows_of(ids).split(16)]
    )


def taught(
    coder: Coder, text: Text, seed: int, flops: float = FLOPS
) -> tuple[decoder.GPT, Int[Tensor, " all"], dict[str, Any]]:
    """One model, trained for so many FLOPs; the validation text in its ids; how it was trained."""
    read, asked = coder.encode(text.training), coder.encode(text.validation)
    size = len(coder.vocabulary)
    sizes = scaling.Sizes(size, D_MODEL, N_HEADS, N_LAYERS, N_TOKENS)
    a_step = N_ROWS * N_TOKENS * scaling.flops_per_token(sizes, N_TOKENS, training=True)
    steps = round(flops / a_step)
    torch.manual_seed(seed)
    model = modern.modern_gpt(size, D_MODEL, N_HEADS, N_LAYERS)
    started = time.process_time()
    learn(
        model,
        optimisers.muon_and_adamw(model, muon_lr=0.02, adamw_lr=8e-3),
        lambda step: decoder.shift_targets(crops(read, seed, step, N_ROWS, N_TOKENS + 1)),
        steps,
    )
    seconds = round(time.process_time() - started, 1)
    return model, asked, {"seed": seed, "vocabulary": size, "steps": steps, "seconds": seconds}


def learn(
    model: decoder.GPT,
    optimiser: Any,
    batch: Callable[[int], training.Batch],
    steps: int,
) -> None:
    """Train on the batch of every step, with a warm-up and a decay to zero."""
    with kernels.fused():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = training.lr_at_step(step, group["peak_lr"], steps // 20, steps)
            training.train_step(model, [batch(step)], optimiser, 1.0)


def trained(name: str, coder: Coder, text: Text, seed: int) -> dict[str, Any]:
    """What one model pays for the validation text."""
    model, asked, how = taught(coder, text, seed)
    with kernels.fused():
        nats = loss_on(model, asked)
    n_bytes = len(text.validation.encode())
    spelled = left_out(coder, text)
    return {
        **({"tokenizer": name} | how),
        "n": sum(each.numel() for each in model.parameters()),
        **{"tokens": len(asked), "bytes": n_bytes, "nats_a_token": round(nats, 4)},
        "bits_per_byte": round(baselines.bits_per_byte(nats * len(asked) + spelled, n_bytes), 4),
        "without_spelling": round(baselines.bits_per_byte(nats * len(asked), n_bytes), 4),
        "python": platform.python_version(),
    }


def models() -> list[dict[str, Any]]:
    """A model for each tokenizer and seed, all for the same FLOPs."""
    text = docstrings.read()
    made = coders(text)
    return [trained(name, coder, text, seed) for name, coder in made.items() for seed in SEEDS]


# --- A space at the end ---------------------------------------------------------------------------

N_WORDS = 300


def spaces() -> list[dict[str, Any]]:
    """What the next word costs after a text that ends with a word, and with a space."""
    text = docstrings.read()
    coder = tokenization.BPE.train(text.training, 1024)
    return [
        how | spaced(model, coder, prompts(coder, text.validation))
        for seed in SEEDS
        for model, _, how in (taught(coder, text, seed, FLOPS / 4),)
    ]


def prompts(coder: tokenization.Tokenizer, text: str) -> list[tuple[str, str]]:
    """Places before a space and a word of letters: the 30 words before it, and the word.

    It is one token with its space, and one without.
    """
    words = tokenization.pretokenize(text)
    places = [
        place
        for place in range(30, len(words))
        if words[place][0] == " " and words[place][1:].isalpha() and words[place - 1][-1].isalpha()
    ]
    one = [
        place
        for place in places
        if len(coder.encode(words[place])) == len(coder.encode(words[place][1:])) == 1
    ]
    chosen = random.Random(0).sample(one, N_WORDS)
    return [("".join(words[place - 30 : place]), words[place]) for place in chosen]


@torch.no_grad()
def spaced(
    model: decoder.GPT, coder: tokenization.Tokenizer, asked: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """Mean nats of the next word, with its space, and behind a space that was typed before.

    `white` is what of the second is lost to more white space: -ln(1 - its probability).
    """
    model.eval()
    begins = torch.tensor([piece[0] in "ĠĊ" for piece in coder.vocabulary])
    rows: list[tuple[float, float, float]] = []
    for before, word in asked:
        whole = next_token(model, coder.encode(before))[coder.encode(word)]
        behind = next_token(model, coder.encode(before + " "))
        white = -torch.log1p(-behind[begins].exp().sum())
        rows.append((-whole.item(), -behind[coder.encode(word[1:])].item(), white.item()))
    means = [round(sum(column) / len(rows), 4) for column in zip(*rows, strict=True)]
    return dict(zip(("word", "behind_a_space", "white"), means, strict=True))


def next_token(model: decoder.GPT, read: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """ln p of every token behind a text."""
    return model(read[None])[0, -1].log_softmax(-1)


# --- Two small tasks ------------------------------------------------------------------------------


def rows_for(
    tasks: Iterable[tuple[Sequence[str], Sequence[str]]], ids: dict[str, int]
) -> training.Batch:
    """Questions and answers in tokens, filled up to one length; only the answers are asked for."""
    both = list(tasks)
    pairs = [(*question, *answer) for question, answer in both]
    rows = torch.zeros(len(pairs), max(map(len, pairs)), dtype=torch.long)
    asked = torch.zeros_like(rows, dtype=torch.bool)
    for place, (question, _) in enumerate(both):
        found = torch.tensor([ids[token] for token in pairs[place]])
        rows[place, : len(found)] = found
        asked[place, len(question) : len(found)] = True
    inputs, targets = decoder.shift_targets(rows)
    return inputs, targets.masked_fill(~asked[:, 1:], -100)


@torch.no_grad()
def right(model: decoder.GPT, batch: training.Batch) -> float:
    """Share of the answers of which every token is the likeliest."""
    inputs, targets = batch
    good = (model.eval()(inputs).argmax(-1) == targets) | (targets == -100)
    return round(good.all(1).float().mean().item(), 4)


def learner(n_tokens: int, seed: int) -> tuple[decoder.GPT, Any]:
    """A GPT with two blocks of width 64, and its optimiser."""
    torch.manual_seed(seed)
    model = decoder.gpt(n_tokens, 64, 4, 2, 32)
    training.init_weights(model, 2)
    return model, optimisers.muon_and_adamw(model, 0.02, 4e-3)


# --- Spelling -------------------------------------------------------------------------------------


def spelling() -> list[dict[str, Any]]:
    """Words to say and to spell, in letters or as pieces; a fifth of them is never spelled.

    Who says a word letter by letter spells it. So letters are asked twice: a fifth that is never
    spelled and never said either, and, as it has to be with pieces, a fifth that is said.
    """
    vocabulary = tokenization.BPE.train(docstrings.read().training, 4096).vocabulary
    short = [piece[1:] for piece in vocabulary if piece[0] == "Ġ" and 4 <= len(piece) <= 8]
    words = [word for word in short if word.isascii() and word.isalpha() and word.islower()][:400]
    return [spelled(kind, words, seed) for kind in SPELLERS for seed in SEEDS]


SPELLERS = ("letters", "letters, all said", "pieces")


def spelled(kind: str, words: Sequence[str], seed: int, steps: int = 1000) -> dict[str, Any]:
    """One model; what it says and spells of the words that it was, and was not, taught to spell."""
    cut = (lambda word: [f"Ġ{word}"]) if kind == "pieces" else list
    draw = random.Random(seed)
    mixed = draw.sample(words, len(words))
    never, taught_words = mixed[: len(words) // 5], mixed[len(words) // 5 :]
    to_say = taught_words if kind == "letters" else words

    def say(word: str) -> tuple[list[str], list[str]]:
        return ["say", *cut(word), ":"], [*cut(word), "."]

    def spell(word: str) -> tuple[list[str], list[str]]:
        return ["spell", *cut(word), ":"], [*word, "."]

    tokens = ["say", "spell", ":", ".", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"Ġ{word}" for word in words] if kind == "pieces" else []
    ids = {token: index for index, token in enumerate(tokens)}
    model, optimiser = learner(len(ids), seed)

    def batch(step: int) -> training.Batch:
        said = [say(word) for word in draw.choices(to_say, k=32)]
        return rows_for(said + [spell(word) for word in draw.choices(taught_words, k=32)], ids)

    learn(model, optimiser, batch, steps)
    return {
        **{"kind": kind, "seed": seed, "steps": steps, "words": len(words)},
        "said": right(model, rows_for(map(say, never), ids)),
        "spelled_taught": right(model, rows_for(map(spell, taught_words), ids)),
        "spelled_never": right(model, rows_for(map(spell, never), ids)),
    }


# --- Sums -----------------------------------------------------------------------------------------


def any_two(draw: random.Random) -> tuple[int, int]:
    """Two numbers below 1,000."""
    return draw.randrange(1000), draw.randrange(1000)


def three_digits(draw: random.Random) -> tuple[int, int]:
    """Two numbers of three digits whose sum has three, too."""
    one = draw.randrange(100, 900)
    return one, draw.randrange(100, 1000 - one)


def below(draw: random.Random) -> tuple[int, int]:
    """Two numbers whose sum is below 1,000, all pairs equally likely."""
    while sum(two := any_two(draw)) >= 1000:
        pass
    return two


def sums() -> list[dict[str, Any]]:
    """Sums of numbers below 1,000, cut in five ways; and easier sums, cut in the last way.

    Digit by digit; by the notebook's tokenizer; two digits a token from the right, with zeros in
    front (so always at the hundreds) or without, or from the left. The easier
    sums have no answer of four digits, and then no number that has not three.
    """
    ways = cuts()
    return [added(kind, *ways[kind], seed) for kind in ways for seed in SEEDS]


def cuts() -> dict[str, tuple[dict[int, list[str]], Callable[[random.Random], tuple[int, int]]]]:
    """For each kind of sum how numbers are cut, and how two of them are drawn."""
    coder = tokenization.BPE.train(docstrings.read().training, 4096)
    left_pairs = {number: two_by_two(str(number)) for number in range(2000)}
    return {
        "digits": ({number: list(f"Ġ{number}") for number in range(2000)}, any_two),
        "pieces": ({number: coder.pieces(f" {number}") for number in range(2000)}, any_two),
        "pairs": (
            {number: [f"Ġ{number // 100}", f"{number % 100:02}"] for number in range(2000)},
            any_two,
        ),
        "right pairs": (
            {number: two_from_the_right(str(number)) for number in range(2000)},
            any_two,
        ),
        "left pairs": (left_pairs, any_two),
        "left pairs, sum below 1,000": ({n: left_pairs[n] for n in range(1000)}, below),
        "left pairs, three digits": ({n: left_pairs[n] for n in range(100, 1000)}, three_digits),
    }


def two_by_two(digits: str) -> list[str]:
    """Two digits a token, from the left, the last alone where one is left."""
    return [f"Ġ{digits[:2]}", *(digits[place : place + 2] for place in range(2, len(digits), 2))]


def two_from_the_right(digits: str) -> list[str]:
    """Two digits a token, from the right, and no zeros in front. For at most four digits."""
    return [f"Ġ{digits[:-2]}", digits[-2:]] if len(digits) > 2 else [f"Ġ{digits}"]


def added(
    kind: str,
    cut: dict[int, list[str]],
    two: Callable[[random.Random], tuple[int, int]],
    seed: int,
    steps: int = 900,
) -> dict[str, Any]:
    """One model that learns to add; of 1,000 other draws, those not read before, and the right."""
    tokens = sorted({token for number in cut.values() for token in number} | set("+=."))
    ids = {token: index for index, token in enumerate(tokens)}
    model, optimiser = learner(len(ids), seed)
    draw, read = random.Random(seed), set[tuple[int, int]]()

    def in_rows(pairs: Iterable[tuple[int, int]]) -> training.Batch:
        return rows_for([([*cut[a], "+", *cut[b], "="], [*cut[a + b], "."]) for a, b in pairs], ids)

    def batch(step: int) -> training.Batch:
        pairs = [two(draw) for _ in range(64)]
        read.update(pairs)
        return in_rows(pairs)

    learn(model, optimiser, batch, steps)
    other = random.Random(1000)
    unread = [pair for pair in (two(other) for _ in range(1000)) if pair not in read]
    return {
        **{"kind": kind, "seed": seed, "steps": steps, "vocabulary": len(ids)},
        "tokens_a_number": round(sum(map(len, cut.values())) / len(cut), 2),
        **{"unread": len(unread), "right": right(model, in_rows(unread))},
    }


EXPERIMENTS = {each.__name__: each for each in (models, spaces, spelling, sums)}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
