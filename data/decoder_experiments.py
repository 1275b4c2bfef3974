"""Run what notebook 06 trains with more seeds and rates than it has time for, and write it down.

python data/decoder_experiments.py           all of them, about three minutes
python data/decoder_experiments.py reverse   only those that are named

The results go to decoder_experiments.json beside this script.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, encoder, positions, projection
from course_utils.corpora import dates, stories
from course_utils.runs.experiments import Experiment, write_down

RESULTS = Path(__file__).with_suffix(".json")
TELLERS, READERS = (1, 2), (0, 1, 3)  # seeds; the notebook itself trains with 0 and with 2
SEEDS = (0, 1, 2, 3, 4)
RATES = (2e-3, 5e-3, 1e-2)


def learning(
    model: nn.Module, loss_at: Callable[[], Tensor], steps: int, rate: float
) -> Iterator[int]:
    """Train as the notebook does, and hand over the step on the way."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    for step in range(steps + 1):
        loss = loss_at()
        yield step
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 30) * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """−ln p of the right token, the mean over all places of all rows."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def small_start(model: nn.Module) -> nn.Module:
    """Tables of tokens and positions begin with numbers near 0."""
    for name, parameter in model.named_parameters():
        if "embed" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def embedding(n_tokens: int, context: int, d_model: int) -> positions.InputEmbedding:
    """Token vectors and learned positions."""
    tokens = projection.Embedding(n_tokens, d_model)
    return positions.InputEmbedding(tokens, positions.LearnedPositions(context, d_model))


# --- A teller of stories -------------------------------------------------------------------------


def tellers() -> list[dict[str, Any]]:
    """The loss on unseen stories, and the share of correct sentences, after 0, 50, 200 steps."""
    return [teller(seed) for seed in TELLERS]


def teller(seed: int) -> dict[str, Any]:
    """One training of 200 steps."""
    torch.manual_seed(seed)
    model = small_start(decoder.gpt(len(stories.VOCABULARY), 64, 4, 2, context=64))
    rows = Random(seed)
    unseen = [[stories.START, *story[:64]] for story in stories.validation(40)]
    read, said = decoder.shift_targets(torch.stack([stories.encode(text) for text in unseen]))

    def loss_at() -> Tensor:
        inputs, targets = decoder.shift_targets(stories.batch(0, rows.randrange(10**6), 12, 65))
        return next_token_loss(model(inputs), targets)

    run: dict[str, Any] = {"seed": seed, "loss": {}, "correct": {}}
    for step in learning(model, loss_at, 200, 5e-3):
        if step in (0, 50, 200):
            with torch.no_grad():
                run["loss"][step] = round(next_token_loss(model(read), said).item(), 3)
            texts = write(model, 16, 56)
            run["correct"][step] = round(sum(map(grammatical, texts)) / len(texts), 3)
    print(run, flush=True)
    return run


@torch.no_grad()
def write(model: nn.Module, n_texts: int, n_words: int) -> list[list[str]]:
    """Draw word after word, each from what the model thinks of the text so far."""
    dice = torch.Generator().manual_seed(0)
    ids = stories.encode([stories.START]).expand(n_texts, 1)
    for _ in range(n_words):
        shares = attention.softmax(model(ids)[:, -1])
        ids = torch.cat((ids, torch.multinomial(shares, 1, generator=dice)), dim=1)
    return [stories.decode(text) for text in ids[:, 1:]]


def grammatical(words: list[str]) -> float:
    """Share of the finished sentences that the grammar of the stories can say."""
    ends = [place for place, word in enumerate(words) if word == "."]
    found = stories.read(words[: ends[-1] + 1]) if ends else None
    return found.n_grammatical / found.n_sentences if found else 0.0


# --- A reader of dates ---------------------------------------------------------------------------

D, HEADS, STEPS = 48, 2, 350
FIELDS = ["year"] * 4 + [""] + ["month"] * 2 + [""] + ["day"] * 2
DIGITS = {"year": [2, 3], "month": [6], "day": [8, 9]}  # of those that must be read


def read_dates() -> list[dict[str, Any]]:
    """What a reader of dates gets right, where it looks, and what it needs, for every seed."""
    return [read_dates_once(seed) for seed in READERS]


def date_model() -> decoder.Seq2Seq:
    """An encoder of one block, and a decoder of one block that reads it."""
    n_tokens, reading = len(dates.VOCABULARY), encoder.block(D, HEADS)
    reading.attention = positions.RotaryAttention(D, HEADS)
    reader = encoder.Encoder(embedding(n_tokens, 60, D), [reading], encoder.LayerNorm(D))
    head, blocks = projection.Linear(D, n_tokens), [decoder.decoder_block(D, HEADS)]
    model = decoder.Seq2Seq(reader, embedding(n_tokens, 10, D), blocks, encoder.LayerNorm(D), head)
    small_start(model)
    return model


def read_dates_once(seed: int) -> dict[str, Any]:
    """One training of 350 steps."""
    training, test = dates.split()
    torch.manual_seed(seed)
    model, random = date_model(), Random(seed)

    def loss_at() -> Tensor:
        source, target = dates.batch(random, training, 48)
        inputs, targets = decoder.shift_targets(target)
        return next_token_loss(model(source, inputs, mask_of(source)), targets)

    run: dict[str, Any] = {"seed": seed, "signs": {}, "whole": {}}
    depths: dict[int, dict[str, float]] = {}
    for step in learning(model, loss_at, STEPS, 6e-3):
        if step % 25 == 0:
            depths[step] = {name: in_field(model, name, training, test) for name in DIGITS}
        if step % 50 == 0:
            right = right_signs(model, test, 60)
            run["signs"][step] = round(right.float().mean().item(), 3)
            run["whole"][step] = round(right.all(dim=1).float().mean().item(), 3)
    run["end"] = round(right_signs(model, test, 300).all(dim=1).float().mean().item(), 3)
    run["found"] = {
        name: min((step for step, depth in depths.items() if depth[name] > 0.5), default=None)
        for name in DIGITS
    }
    chosen = hits(model, training[:200])[0].argmax(dim=0)
    measured, blind = hits(model, test[:300])
    run["hits"] = rounded(measured[chosen, torch.arange(10)])
    run["blind"] = rounded(blind)
    run["right"] = {"the whole model": rounded(right_by_place(model, test))}
    for layer in ("self_attention", "cross_attention", "feed_forward"):
        undo = always_the_mean(model, layer, training)
        run["right"][layer] = rounded(right_by_place(model, test))
        undo()
    print(run, flush=True)
    return run


def rounded(numbers: Tensor) -> list[float]:
    """Three digits are enough."""
    return [round(number, 3) for number in numbers.tolist()]


def mask_of(source: Int[Tensor, "batch source"]) -> Bool[Tensor, "batch 1 1 source"]:
    """True at the real characters of the source."""
    return encoder.padding_mask(source, dates.PAD_ID)


@torch.no_grad()
def right_signs(
    model: nn.Module, test: Sequence[date], n_dates: int
) -> Bool[Tensor, "n_dates place"]:
    """Which characters are right where the model writes on its own."""
    source, target = dates.batch(Random(2), test, n_dates)
    written = target[:, :1]
    for _ in range(10):
        best = model(source, written, mask_of(source))[:, -1:].argmax(dim=-1)
        written = torch.cat((written, best), dim=1)
    return written[:, 1:] == target[:, 1:]


@torch.no_grad()
def right_by_place(model: nn.Module, test: Sequence[date]) -> Float[Tensor, " place"]:
    """Share of right characters of 300 unseen dates, each after the true ones before it."""
    source, target = dates.batch(Random(2), test, 300)
    inputs, targets = decoder.shift_targets(target)
    best = model(source, inputs, mask_of(source)).argmax(dim=-1)
    return (best == targets).float().mean(dim=0)


@torch.no_grad()
def cross_weights(
    model: nn.Module, days: Sequence[date]
) -> tuple[Float[Tensor, "date head target source"], list[dates.Spelling]]:
    """Where the decoder looks while it reads these dates, and how they are spelled."""
    spelled = [dates.spell(Random(index), day) for index, day in enumerate(days)]
    source = dates.pad([spelling.text for spelling in spelled])
    start = torch.full((len(days), 1), dates.START_ID)
    inputs = torch.cat((start, dates.pad([day.isoformat() for day in days])[:, :-1]), dim=1)
    with attention.record() as maps:
        model(source, inputs, mask_of(source))
    return maps["blocks.0.cross_attention"], spelled


def in_field(model: nn.Module, name: str, training: Sequence[date], test: Sequence[date]) -> float:
    """Weight in the field, from 0, a blind look, to 1; training dates choose the head."""

    def looks(days: Sequence[date]) -> tuple[Tensor, float]:
        inside, blind = torch.zeros(HEADS), 0.0
        for weights, spelling in zip(*cross_weights(model, days), strict=True):
            field = getattr(spelling, name)
            inside += weights[:, DIGITS[name], field].sum(dim=-1).mean(dim=-1) / len(days)
            blind += (field.stop - field.start) / len(spelling.text) / len(days)
        return inside, blind

    chosen = looks(training[:50])[0].argmax()
    inside, blind = looks(test[:50])
    return (inside[chosen].item() - blind) / (1 - blind)


def hits(
    model: nn.Module, days: Sequence[date]
) -> tuple[Float[Tensor, "head place"], Float[Tensor, " place"]]:
    """How often the largest weight lies in the right field, by head; and a blind look's share."""
    weights, spelled = cross_weights(model, days)
    inside, blind = torch.zeros(HEADS, 10), torch.zeros(10)
    for places, spelling in zip(weights.argmax(dim=-1), spelled, strict=True):
        for index, name in enumerate(FIELDS):
            if name:
                field, column = getattr(spelling, name), places[:, index]
                inside[:, index] += (column >= field.start) & (column < field.stop)
                blind[index] += (field.stop - field.start) / len(spelling.text)
    return inside / len(days), blind / len(days)


def always_the_mean(model: nn.Module, step: str, training: Sequence[date]) -> Callable[[], None]:
    """Let a step of the decoder say what it says on average; the result undoes it."""
    layer: nn.Module = model.blocks[0].get_submodule(step)  # type: ignore[index,union-attr]
    said: list[Tensor] = []
    source, target = dates.batch(Random(3), training, 300)
    hook = layer.register_forward_hook(lambda _, args, out: said.append(out))
    with torch.no_grad():
        model(source, target[:, :-1], mask_of(source))
    hook.remove()
    mean = said[0].mean(dim=0)
    return layer.register_forward_hook(lambda _, args, out: mean.expand_as(out)).remove


# --- Eight digits, turned round ------------------------------------------------------------------

N, SYMBOLS, WIDTH, MOST_STEPS = 8, 11, 32, 400  # ten digits and a start sign


class OneStream(nn.Module):
    """A GPT that reads the source, and then goes on with the target."""

    def __init__(self) -> None:
        super().__init__()
        blocks, head = [encoder.block(WIDTH, 2)], projection.Linear(WIDTH, SYMBOLS)
        embed = embedding(SYMBOLS, 2 * N, WIDTH)
        self.gpt = decoder.GPT(embed, blocks, encoder.LayerNorm(WIDTH), head)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        logits: Tensor = self.gpt(torch.cat((source, target), dim=1))
        return logits[:, source.shape[1] :]


def two_texts(n_reading: int = 1) -> decoder.Seq2Seq:
    """An encoder of so many blocks and a decoder of one."""
    reading = [encoder.block(WIDTH, 2) for _ in range(n_reading)]
    reads = encoder.Encoder(embedding(SYMBOLS, N, WIDTH), reading, encoder.LayerNorm(WIDTH))
    writes, head = [decoder.decoder_block(WIDTH, 2)], projection.Linear(WIDTH, SYMBOLS)
    embed = embedding(SYMBOLS, N, WIDTH)
    return decoder.Seq2Seq(reads, embed, writes, encoder.LayerNorm(WIDTH), head)


PAIRS: dict[str, Callable[[], nn.Module]] = {
    "encoder and decoder": two_texts,
    "its reading block taken away": lambda: two_texts(0),
    "decoder only": OneStream,
}


def reverse() -> list[dict[str, Any]]:
    """Steps until nine digits in ten are right: three models, three rates each, five seeds."""
    return [
        {"kind": kind, "rate": rate, "seed": seed, "steps": steps_to_reverse(kind, rate, seed)}
        for kind in PAIRS
        for rate in RATES
        for seed in SEEDS
    ]


def steps_to_reverse(kind: str, rate: float, seed: int) -> int:
    """Three batches in a row must be right; 400 at most."""
    torch.manual_seed(seed)
    model, right = small_start(PAIRS[kind]()), [0.0]

    def loss_at() -> Tensor:
        source = torch.randint(10, (32, N))
        target = torch.cat((torch.full((32, 1), 10), source.flip(1)), dim=1)
        inputs, targets = decoder.shift_targets(target)
        logits = model(source, inputs)
        right.append((logits.argmax(dim=-1) == targets).float().mean().item())
        return next_token_loss(logits, targets)

    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    for step in range(MOST_STEPS):
        loss = loss_at()
        if step > 3 and min(right[-3:]) > 0.9:
            print(kind, rate, seed, step, flush=True)
            return step
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 30)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return MOST_STEPS


EXPERIMENTS: dict[str, Experiment] = {
    "tellers": tellers,
    "dates": read_dates,
    "reverse": reverse,
}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
