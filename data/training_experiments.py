"""Run the experiments of notebook 07 that take too long for it, and write down what came out.

python data/training_experiments.py           all of them, about twenty minutes
python data/training_experiments.py tying     only those that are named

The results go to training_experiments.json beside this script. Most train
GPTs: on `corpora.sentences`, on `corpora.stories` where data must run out or words are many, and
on a task of recall where attention must be needed. `norms` and `collapse` train a classifier.
"""

import io
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import train_stories_model as teller
from torch import Tensor, nn

from course_utils import decoder, encoder, modern, positions, projection, training
from course_utils.corpora import labelled, sentences, stories
from course_utils.runs import kernels, loop, optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
CONTEXT = stories.LONGEST + 1  # the longest story, and the token before or behind it
Batches = Callable[[int], list[training.Batch]]

# --- Runs ----------------------------------------------------------------------------------------


def gpt(
    vocabulary: int, d_model: int, n_layers: int, context: int, seed: int, init: bool = True
) -> decoder.GPT:
    """A GPT with its first weights."""
    torch.manual_seed(seed)
    model = decoder.gpt(vocabulary, d_model, 4, n_layers, context)
    if init:
        training.init_weights(model, n_layers)
    return model


def run(
    model: nn.Module,
    batches: Batches,
    rates: Iterable[float],
    max_norm: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    watch: Callable[[int], None] = lambda step: None,
    optimiser: torch.optim.Optimizer | None = None,
) -> list[float]:
    """Losses of a run, with AdamW if nothing else is said; one step for every learning rate."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = optimiser or optimisers.AdamW(trained, betas=betas)
    losses = []
    for step, rate in enumerate(rates):
        optimiser.param_groups[0]["lr"] = rate
        torch.manual_seed(step)  # dropout
        losses.append(training.train_step(model, batches(step), optimiser, max_norm)[0])
        watch(step)
    return losses


def sentence_batches(seed: int) -> Batches:
    """Fresh sentences for every step."""
    random = Random(seed)
    return lambda step: [decoder.shift_targets(sentences.batch(random, 32))]


def label_batches(seed: int) -> Batches:
    """Noun phrases, and whether their subject is one or many (notebook 05)."""
    examples, _ = labelled.split(Random(0), 2000, 500)

    def forever() -> Iterable[training.Batch]:
        random = Random(seed)
        while True:
            yield from labelled.batches(random, examples, 32)

    source = iter(forever())
    return lambda step: [next(source)]


def story_tensors(texts: list[list[str]]) -> training.Batch:
    """Whole stories as a batch; what is behind their end does not count."""
    rows = [stories.encode([stories.START, *words, stories.END]) for words in texts]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    inputs, targets = decoder.shift_targets(ids)
    return inputs.clamp_min(0), targets


def story_batches(texts: list[list[str]] | None, seed: int = 0) -> Batches:
    """Eight whole stories a step: fresh ones, or again and again some of a few."""
    if texts is None:
        return lambda step: [story_tensors(told(Random(f"fresh {seed} {step}"), 8))]
    return lambda step: [story_tensors(Random(f"{seed} {step}").choices(texts, k=8))]


def told(random: Random, n_stories: int) -> list[list[str]]:
    """Stories that are not held out."""
    found: list[list[str]] = []
    while len(found) < n_stories:
        words = stories.sample(random)
        found += [] if stories.held_out(words) else [words]
    return found


RECALL = 12  # words of the task below
BACK = 3


def recall_batches(seed: int) -> Batches:
    """Rows of chance; what must be said at each place is the word three places back."""
    generator = torch.Generator().manual_seed(seed)

    def batch(step: int) -> list[training.Batch]:
        ids = torch.randint(RECALL, (32, 16), generator=generator)
        targets = torch.full_like(ids, training.NOT_COUNTED)
        targets[:, BACK:] = ids[:, :-BACK]
        return [(ids, targets)]

    return batch


def flat(peak: float, steps: int, warmup: int = 0) -> list[float]:
    """Learning rates that rise in a straight line, and then stay."""
    return [peak * min(1.0, (step + 1) / max(1, warmup)) for step in range(steps)]


def cosine(peak: float, steps: int, warmup: int = 0) -> list[float]:
    """Learning rates of `training.lr_at_step`."""
    return [training.lr_at_step(step, peak, warmup, steps) for step in range(steps)]


def end(losses: list[float]) -> float:
    """Mean of the last twenty losses."""
    return round(sum(losses[-20:]) / len(losses[-20:]), 4)


def thinned(losses: list[float], every: int = 2) -> list[float]:
    """Means of `every` losses after one another, rounded."""
    groups = [losses[start : start + every] for start in range(0, len(losses), every)]
    return [round(sum(group) / len(group), 3) for group in groups]


# --- The experiments -----------------------------------------------------------------------------


def norms() -> list[dict[str, Any]]:
    """Twelve blocks that learn to classify: pre- and post-norm, warm-up or not, four rates."""
    found = []
    for seed in SEEDS:
        for norm in ("pre", "post"):
            for warmup in (0, 30):
                for lr in (3e-4, 1e-3, 3e-3, 1e-2):
                    losses = run(
                        deep_classifier(norm, seed),
                        label_batches(seed),
                        flat(lr, 90, warmup),
                        max_norm=float("inf"),
                    )
                    found.append(
                        {"norm": norm, "warmup": warmup, "lr": lr, "seed": seed}
                        | {"end": end(losses), "losses": thinned(losses)}
                    )
    return found


def deep_classifier(norm: str, seed: int) -> encoder.Classifier:
    """Twelve blocks with torch's first weights, as in notebook 05."""
    torch.manual_seed(seed)
    embed = positions.InputEmbedding(
        projection.Embedding(len(labelled.VOCABULARY), 48), positions.LearnedPositions(16, 48)
    )
    blocks = [encoder.block(48, 4, norm_first=norm == "pre") for _ in range(12)]
    last = encoder.LayerNorm(48) if norm == "pre" else nn.Identity()
    return encoder.Classifier(
        encoder.Encoder(embed, blocks, last), 48, n_classes=2, pad_id=labelled.PAD_ID
    )


def collapse() -> list[dict[str, Any]]:
    """The same twelve blocks, fast and without warm-up: gradients by block, and what is said."""
    found = []
    for seed in SEEDS:
        for norm in ("pre", "post"):
            model, batches = deep_classifier(norm, seed), label_batches(seed)
            [(inputs, targets)] = batches(0)
            optimiser = optimisers.AdamW(model.parameters(), 3e-3)
            for step in range(13):
                training.cross_entropy(model(inputs), targets).backward()
                if step in (0, 12):
                    lengths = [block_gradient(block) for block in model.encoder.blocks]
                    with torch.no_grad():
                        said = model(inputs)
                    apart = (said - said.mean(0)).norm(dim=-1).mean().item()
                    found.append({"norm": norm, "seed": seed, "step": step, "apart": apart,
                                  "gradients": lengths})  # fmt: skip
                training.train_step(model, batches(step + 1), optimiser, float("inf"))
                model.zero_grad()
    return found


def block_gradient(block: nn.Module) -> float:
    """Length of the gradient of all parameters of a block."""
    return (
        sum((each.grad**2).sum().item() for each in block.parameters() if each.grad is not None)
        ** 0.5
    )


def frozen() -> list[dict[str, Any]]:
    """A task that only attention can do, and what happens where one kind of part does not learn."""
    found = []
    for name in (
        "nothing",
        "no attention",
        "attention",
        "attention, larger",
        "embed",
        "feed_forward",
        "norm",
        "head",
        "head, larger",
    ):
        for seed in SEEDS:
            model = gpt(RECALL, 32, 1, 16, seed)
            still = name.removeprefix("no ").removesuffix(", larger")
            for each, parameter in model.named_parameters():
                parameter.requires_grad = still not in each
                if name == "no attention" and "w_o" in each:
                    nn.init.zeros_(parameter)
                if name.endswith("larger") and still in each and parameter.ndim > 1:
                    nn.init.normal_(parameter, std=32**-0.5)
            losses = run(model, recall_batches(seed), flat(1e-2, 120), betas=(0.9, 0.99))
            found.append({"frozen": name, "seed": seed, "end": end(losses)})
    return found


def descents() -> list[dict[str, Any]]:
    """One small GPT, and three ways down, each at four rates."""
    ways: dict[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, ...]]] = {
        "plain gradient": (torch.optim.SGD, (0.1, 0.3, 1.0, 3.0)),
        "momentum": (partial(torch.optim.SGD, momentum=0.9), (0.03, 0.1, 0.3, 1.0)),
        "AdamW": (optimisers.AdamW, (1e-3, 3e-3, 1e-2, 3e-2)),
    }
    found = []
    for name, (way, peaks) in ways.items():
        for lr in peaks:
            for seed in SEEDS:
                model = gpt(len(sentences.VOCABULARY), 32, 2, 15, seed)
                optimiser = way(model.parameters(), lr=lr)
                rates = cosine(lr, 150, 10)
                losses = run(model, sentence_batches(seed), rates, optimiser=optimiser)
                found.append({"way": name, "lr": lr, "seed": seed, "end": end(losses),
                              "losses": thinned(losses)})  # fmt: skip
    return found


def stability() -> list[dict[str, Any]]:
    """Twelve pre-norm blocks that learn sentences fast: each measure switched off in turn."""
    found = []
    for name in ("all of them", "pre-norm", "scaled init", "warm-up", "clipping", "beta2 0.95"):
        for seed in SEEDS:
            model = gpt(len(sentences.VOCABULARY), 32, 12, 15, seed, init=name != "scaled init")
            for block in model.blocks:
                block.norm_first = name != "pre-norm"  # type: ignore[assignment]
            losses = run(
                model,
                sentence_batches(seed),
                flat(1e-2, 80, 0 if name == "warm-up" else 20),
                max_norm=float("inf") if name == "clipping" else 1.0,
                betas=(0.9, 0.999 if name == "beta2 0.95" else 0.95),
            )
            found.append({"off": name, "seed": seed, "end": end(losses), "highest": max(losses)})
    return found


def rates() -> list[dict[str, Any]]:
    """A small GPT, and seven learning rates."""
    found = []
    for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
        for seed in SEEDS:
            model = gpt(len(sentences.VOCABULARY), 32, 2, 15, seed)
            losses = run(model, sentence_batches(seed), cosine(lr, 150, 10))
            found.append({"lr": lr, "seed": seed, "end": end(losses), "losses": thinned(losses)})
    return found


def schedules() -> list[dict[str, Any]]:
    """The same peak and the same number of steps, and four ways down from the peak."""
    steps, warmup, peak = 300, 30, 1e-2
    shapes = {
        "constant": flat(peak, steps, warmup),
        "cosine": cosine(peak, steps, warmup),
        "constant, then down": [
            min(rate, peak * (steps - step) / (0.2 * steps))
            for step, rate in enumerate(flat(peak, steps, warmup))
        ],
        "2017: one over root": [
            peak * min((step + 1) / warmup, ((step + 1) / warmup) ** -0.5) for step in range(steps)
        ],
    }
    found = []
    for name, shape in shapes.items():
        for seed in SEEDS:
            model = gpt(len(sentences.VOCABULARY), 32, 2, 15, seed)
            losses = run(model, sentence_batches(seed), shape)
            held_out = [decoder.shift_targets(sentences.batch(Random("held out"), 1000))]
            found.append(
                {"shape": name, "seed": seed, "validation": training.evaluate(model, held_out)}
                | {"losses": thinned(losses, 5)}
            )
    return found


class Dropped(nn.Module):
    """Runs a sublayer, and drops some of what it writes while training."""

    def __init__(self, inside: nn.Module, share: float):
        super().__init__()
        self.inside = inside
        self.dropout = nn.Dropout(share)

    def forward(self, *inputs: Tensor, **options: Tensor) -> Tensor:
        return self.dropout(self.inside(*inputs, **options))


def data() -> list[dict[str, Any]]:
    """One model and as many steps, but more or less to read, with and without dropout."""
    return [
        {"stories": n_stories, "dropout": share, "seed": seed} | reader(n_stories, share, seed)
        for n_stories in (20, 100, 1000, None)
        for share in (0.0, 0.2)
        for seed in (SEEDS if n_stories in (100, None) else SEEDS[:1])
    ]


def reader(n_stories: int | None, dropout: float, seed: int, steps: int = 400) -> dict[str, Any]:
    """Train on so many stories, or on fresh ones; losses of training and of validation."""
    drawn = (stories.sample(Random(f"training {2000 * seed + n}")) for n in range(2000))
    pool = (words for words in drawn if not stories.held_out(words))
    texts = None if n_stories is None else list(islice(pool, n_stories))
    validation = [story_tensors(stories.validation(50))]
    model = gpt(len(stories.VOCABULARY), 64, 2, CONTEXT, seed)
    for block in model.blocks:
        block.attention = Dropped(block.attention, dropout)  # type: ignore[arg-type]
        block.feed_forward = Dropped(block.feed_forward, dropout)  # type: ignore[arg-type]
    points: dict[int, float] = {}

    def watch(step: int) -> None:
        if (step + 1) % 50 == 0:
            points[step + 1] = round(training.evaluate(model, validation), 4)

    losses = run(model, story_batches(texts, seed), cosine(6e-3, steps, 20), watch=watch)
    return {"training": end(losses), "losses": thinned(losses, 10), "validation": points}


def tying() -> list[dict[str, Any]]:
    """A head with a table of its own, and one that reads the embedding's."""
    validation = [story_tensors(stories.validation(50))]
    found = []
    for tied in (False, True):
        for seed in SEEDS:
            model = gpt(len(stories.VOCABULARY), 64, 2, CONTEXT, seed)
            if tied:
                model.head.weight = model.embed.tokens.weight  # type: ignore[union-attr]
            run(model, story_batches(None, seed), cosine(6e-3, 300, 20))
            n_parameters = sum(each.numel() for each in model.parameters())
            loss = training.evaluate(model, validation)
            found.append({"tied": tied, "seed": seed, "parameters": n_parameters, "loss": loss})
    return found


def longer() -> list[dict[str, Any]]:
    """The story-teller's run by a plain GPT, and by one that has its embedding of n-grams."""
    return [{"parts": parts, "points": asked_on_the_way(parts)} for parts in ("plain", "n-grams")]


def asked_on_the_way(parts: str) -> list[dict[str, float]]:
    """Loss and right answers on unseen stories, as the story-teller was asked while it trained."""
    model = gpt(len(stories.VOCABULARY), 64, 2, CONTEXT, teller.SEED)
    if parts == "n-grams":
        n_buckets, longest = teller.CONFIG["n_buckets"], teller.CONFIG["longest"]
        model.embed.tokens = modern.NGramEmbedding(model.embed.tokens, n_buckets, longest)  # type: ignore
    texts = stories.validation(teller.N_WATCHED)
    points: list[dict[str, float]] = []

    @torch.no_grad()
    def watch(_: nn.Module) -> float:
        model.eval()
        answers = teller.answered(model, texts)
        point = {"loss": teller.loss(model, texts)}
        point |= {kind: answers[kind] for kind in ("colour", "place")}
        step = (len(points) + 1) * teller.SCHEDULE.evaluate_every
        points.append({"step": step} | {key: round(value, 4) for key, value in point.items()})
        model.train()
        return point["loss"]

    optimiser = optimisers.AdamW(model.parameters(), 3e-3, (0.9, 0.99))
    with redirect_stdout(io.StringIO()):  # without the bar
        loop.train(model, optimiser, teller.batches, teller.SCHEDULE, watch)
    return points


EXPERIMENTS = {
    each.__name__: each
    for each in (
        norms, collapse, frozen, descents, stability, rates, schedules, data, tying, longer,
    )
}  # fmt: skip


if __name__ == "__main__":
    with kernels.fused():
        write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
