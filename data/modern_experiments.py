"""Run the experiments of notebook 12 that take too long for it, and write down what came out.

python data/modern_experiments.py           all of them, about an hour on one core
python data/modern_experiments.py swaps     only those that are named

The results go to modern_experiments.json beside this script. All train GPTs, most of them on
stories.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from course_utils import attention, decoder, encoder, modern, positions, projection, training
from course_utils.corpora import stories, story_grammar
from course_utils.encoder import FeedForward, LayerNorm, TransformerBlock
from course_utils.modern import GroupedAttention, Rotary
from course_utils.runs import kernels, optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
FRESH = (3, 4, 5, 6, 7, 8)
SHARE = 2.0  # of the usual rates: the baseline is worse at 1, and as good at 4 (`other_rates`)
CONTEXT = stories.LONGEST + 1  # the longest story, and the token before or behind it
D_MODEL, N_HEADS, N_LAYERS, STEPS = 64, 4, 2, 300

# --- Models: the block of GPT-2, and what is put in the place of its parts -----------------------

Part = Callable[[], nn.Module]
grouped = partial(GroupedAttention, D_MODEL, N_HEADS, biases="qkvo")
unturned = partial(grouped, rotary=Rotary(0))


def usual_attention() -> nn.Module:
    return attention.MultiHeadAttention(D_MODEL, N_HEADS)


class Activated(nn.Module):
    """A feed-forward net with another activation than GELU."""

    def __init__(self, d_model: int, d_hidden: int, activation: Callable, bias: bool = True):
        super().__init__()
        self.up = projection.Linear(d_model, d_hidden, bias=bias)
        self.down = projection.Linear(d_hidden, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


def gpt(
    attend: Part, feed_forward: Part, norm: Callable[[int], nn.Module], learned_positions: bool
) -> decoder.GPT:
    """Two blocks of these parts, with first weights."""
    places = positions.LearnedPositions(CONTEXT, D_MODEL) if learned_positions else nn.Identity()
    table = projection.Embedding(len(stories.VOCABULARY), D_MODEL)
    model = decoder.GPT(
        positions.InputEmbedding(table, places),
        [
            TransformerBlock(attend(), feed_forward(), norm(D_MODEL), norm(D_MODEL))
            for _ in range(N_LAYERS)
        ],
        norm(D_MODEL),
        projection.Linear(D_MODEL, len(stories.VOCABULARY), bias=False),
    )
    training.init_weights(model, N_LAYERS)
    return model


def n_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def swapped(
    attend: Part = usual_attention,
    net: Callable[[int, int], nn.Module] = FeedForward,
    norm: Callable[[int], nn.Module] = LayerNorm,
    learned_positions: bool = True,
    like: Callable[[], decoder.GPT] | None = None,
) -> decoder.GPT:
    """A GPT with these parts. Its feed-forward nets are so wide that it has the size of `like`.

    With no other part it is the usual GPT with other first weights, as its widths are tried first.
    """

    def of_width(d_hidden: int) -> decoder.GPT:
        return gpt(attend, lambda: net(D_MODEL, d_hidden), norm, learned_positions)

    fewer, more = (n_parameters(of_width(d_hidden)) for d_hidden in (8, 9))
    return of_width(8 + round((size(like or usual) - fewer) / (more - fewer)))


def usual() -> decoder.GPT:
    return gpt(usual_attention, lambda: FeedForward(D_MODEL, 4 * D_MODEL), LayerNorm, True)


def size(make: Callable[[], decoder.GPT]) -> int:
    """Its parameters. Nothing that is drawn later changes."""
    with torch.random.fork_rng():
        return n_parameters(make())


def experts() -> decoder.GPT:
    """Eight nets of half the width, two a token: the usual work, and four times the weights."""
    mixed = partial(modern.MixtureOfExperts, D_MODEL, 2 * D_MODEL, 8, 2, FeedForward)
    return gpt(usual_attention, mixed, LayerNorm, True)


def mixtral() -> decoder.GPT:
    """Eight experts in a block like Mixtral's. Routers begin at 0: ties decide at first."""
    mixed = partial(modern.MixtureOfExperts, D_MODEL, 86, 8, 2)
    attend = partial(GroupedAttention, D_MODEL, N_HEADS, N_HEADS)
    model = gpt(attend, mixed, modern.RMSNorm, learned_positions=False)
    blocks: Any = model.blocks
    for block in blocks:
        nn.init.zeros_(block.feed_forward.router.weight)
    return model


def turned(part: float) -> decoder.GPT:
    """A part of each head's features is turned; no table of places."""
    d_turned = round(part * D_MODEL / N_HEADS)
    return swapped(lambda: grouped(N_HEADS, rotary=Rotary(d_turned)), learned_positions=False)


def normed(d_head: int = D_MODEL // N_HEADS) -> dict[str, Any]:
    return {"norm_q": modern.RMSNorm(d_head), "norm_k": modern.RMSNorm(d_head)}


def latent(d_latent: int) -> nn.Module:
    return modern.LatentAttention(D_MODEL, N_HEADS, d_latent, d_head=16, d_turned=8)


def modernised(net: Callable = modern.SwiGLU, **norms: Any) -> decoder.GPT:
    """All swaps of Llama 3 at once."""
    return swapped(
        lambda: GroupedAttention(
            D_MODEL, N_HEADS, 2, **{name: make() for name, make in norms.items()}
        ),
        net,
        modern.RMSNorm,
        learned_positions=False,
    )


def head_norm() -> nn.Module:
    return modern.RMSNorm(D_MODEL // N_HEADS)


def one_head(d_head: int) -> nn.Module:
    return GroupedAttention(D_MODEL, 1, 1, d_head, rotary=Rotary(0), biases="qkvo")


class Normed(nn.Module):
    """A part whose output is normed, too."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part
        self.norm = LayerNorm(D_MODEL)

    def forward(self, x: Tensor, **kept: Any) -> Tensor:
        return self.norm(self.part(x, **kept))


def norms_behind() -> decoder.GPT:
    """The norms stand behind each sum, as in Vaswani et al. 2017 (05)."""
    model = swapped()
    blocks: Any = model.blocks
    for block in blocks:
        block.norm_first = False
    return model


def wider(make: Callable[[], decoder.GPT]) -> decoder.GPT:
    """Its maps into the feed-forward nets begin larger: at 1/√d_model, in place of 0.02."""
    model = make()
    for name, weight in model.named_parameters():
        if name.endswith(("feed_forward.up.weight", "feed_forward.gate.weight")):
            nn.init.normal_(weight, std=D_MODEL**-0.5)
    return model


unbiased = partial(Activated, activation=encoder.gelu, bias=False)

MODELS: dict[str, Callable[[], decoder.GPT]] = {
    "baseline": usual,
    "nothing": swapped,
    "RMSNorm": partial(swapped, norm=modern.RMSNorm),
    "norms behind": norms_behind,
    "norms on both sides": partial(
        swapped, lambda: Normed(usual_attention()), lambda *widths: Normed(FeedForward(*widths))
    ),
    "no biases": partial(
        swapped,
        lambda: GroupedAttention(D_MODEL, N_HEADS, N_HEADS, rotary=Rotary(0)),
        unbiased,
    ),
    "ReLU": partial(swapped, net=partial(Activated, activation=torch.relu)),
    "SiLU": partial(swapped, net=partial(Activated, activation=F.silu)),
    "SwiGLU": partial(swapped, net=modern.SwiGLU),
    "RoPE": partial(turned, 1.0),
    "RoPE on a half": partial(turned, 0.5),
    "RoPE on a quarter": partial(turned, 0.25),
    "no positions": partial(turned, 0.0),
    "QK-norm": partial(swapped, lambda: unturned(N_HEADS, norm_q=head_norm(), norm_k=head_norm())),
    "GQA, 2 groups": partial(swapped, lambda: unturned(2)),
    "MQA": partial(swapped, lambda: unturned(1)),
    "one head of 64": partial(swapped, partial(one_head, 64)),
    "one head of 16": partial(swapped, partial(one_head, 16)),
    "MQA and RoPE": partial(swapped, lambda: grouped(1), learned_positions=False),
    "window of 32": partial(swapped, lambda: modern.Windowed(usual_attention(), 32)),
    "window of 16": partial(swapped, lambda: modern.Windowed(usual_attention(), 16)),
    "window of 8": partial(swapped, lambda: modern.Windowed(usual_attention(), 8)),
    "latent of 24": partial(swapped, partial(latent, 24), learned_positions=False),
    "latent of 48": partial(swapped, partial(latent, 48), learned_positions=False),
    "8 experts, 2 a token": experts,
    "one net as large as 8": partial(swapped, like=experts),
    "Llama's block": modernised,
    "Llama's with GELU": partial(modernised, unbiased),
    "Qwen3's block": partial(modernised, norm_q=head_norm, norm_k=head_norm),
}
CONTROLS: dict[str, Callable[[], decoder.GPT]] = {
    "window of 1": partial(swapped, lambda: modern.Windowed(usual_attention(), 1)),
    "latent of 64": partial(swapped, partial(latent, 64), learned_positions=False),
    "baseline, wider": partial(wider, usual),
    "SwiGLU, wider": partial(wider, partial(swapped, net=modern.SwiGLU)),
    "Llama's block, wider": partial(wider, modernised),
}

# --- Training ------------------------------------------------------------------------------------


def run(
    model: nn.Module,
    optimiser: Optimizer,
    batches: Callable[[int], training.Batch],
    steps: int,
    more: Callable[[], Tensor | float] = lambda: 0.0,
) -> float:
    """Train; the learning rate rises, stays, and falls to 0. `more` is added to the loss.

    Returns seconds of the processor.
    """
    started = time.process_time()
    for step in range(steps):
        share = min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.5 * steps))
        for group in optimiser.param_groups:
            group["lr"] = share * group["peak_lr"]
        inputs, targets = batches(step)
        loss = training.cross_entropy(model(inputs), targets) + more()
        optimiser.zero_grad()
        loss.backward()
        training.clip_gradients(model.parameters(), 1.0)
        optimiser.step()
    return round(time.process_time() - started, 1)


def story_batch(seed: int, step: int, n_tokens: int = CONTEXT) -> training.Batch:
    """Eight rows. That a row goes on with another story is not asked for."""
    inputs, targets = decoder.shift_targets(stories.batch(seed, step, 8, n_tokens + 1))
    return inputs, targets.masked_fill(targets == stories.VOCABULARY.index(stories.START), -100)


def story_rows(texts: list[list[str]]) -> training.Batch:
    """Whole stories; what is behind their end does not count."""
    rows = [stories.encode([stories.START, *words, stories.END]) for words in texts]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    inputs, targets = decoder.shift_targets(ids)
    return inputs.clamp_min(0), targets


def excess(model: nn.Module, n_stories: int = 150) -> float:
    """Nats a word above the lowest loss that is possible, on stories that were held out."""
    held_out = stories.validation(n_stories)
    loss = training.evaluate(model, [story_rows(held_out)])
    return round(loss - stories.floor(held_out).per_token, 4)


def each(work: Callable[..., dict[str, Any]], *choices: Iterable) -> list[dict[str, Any]]:
    """A row for every combination of the choices."""
    return [work(*chosen) for chosen in product(*choices)]


# --- The swaps -----------------------------------------------------------------------------------


def swaps() -> list[dict[str, Any]]:
    """Every model with three seeds. A seed decides first weights and stories."""
    return each(of_model, MODELS, (SHARE,), SEEDS)


def of_model(name: str, share: float, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One model that learned stories."""
    model, seconds = trained(name, share, seed, steps)
    return {
        **{"model": name, "share": share, "seed": seed, "n": n_parameters(model)},
        **{"excess": excess(model), "seconds": seconds},
    }


def trained(
    name: str, share: float, seed: int, steps: int, batches: Any = story_batch
) -> tuple[decoder.GPT, float]:
    """A model that learned from such batches, and the seconds."""
    torch.manual_seed(seed)
    model = (MODELS | CONTROLS)[name]()
    optimiser = optimisers.muon_and_adamw(model, 0.02 * share, 8e-3 * share)
    with kernels.fused():
        return model, run(model, optimiser, partial(batches, seed), steps)


def other_rates() -> list[dict[str, Any]]:
    """The baseline, and parts that lose at its best rate, at half of that rate and at twice it.

    Where the best was at an edge, one further rate.
    """
    names = ("baseline", "SwiGLU", "latent of 24", "Llama's block")
    near = each(of_model, names, (SHARE / 2, SHARE * 2), SEEDS)
    higher = each(of_model, names[:2], (SHARE * 4,), SEEDS)
    return near + higher + each(of_model, names[3:], (SHARE / 4,), SEEDS)


def first_weights() -> list[dict[str, Any]]:
    """First weights of 0.02 are small for a gate at this width: the same with larger ones."""
    names = ("baseline, wider", "SwiGLU, wider", "Llama's block, wider")
    return each(of_model, names, (SHARE,), SEEDS)


def control() -> list[dict[str, Any]]:
    """The baseline whose every token sees itself only; a latent as wide as all heads' keys."""
    return each(of_model, ("window of 1", "latent of 64"), (SHARE,), SEEDS)


def longer() -> list[dict[str, Any]]:
    """Some of them for twice as long, and nothing swapped."""
    names = ("baseline", "nothing", "SwiGLU", "Llama's block", "Llama's with GELU", "Qwen3's block")
    return each(partial(of_model, steps=2 * STEPS), names, (SHARE,), SEEDS)


def again() -> list[dict[str, Any]]:
    """The two that come out best, once more, with fresh seeds; and once more nothing at all."""
    return each(of_model, ("baseline", "nothing", "SiLU", "RoPE"), (SHARE,), FRESH)


def one_head_again() -> list[dict[str, Any]]:
    """One head of 16, chosen after looking, once more with fresh seeds."""
    return each(of_model, ("one head of 16",), (SHARE,), FRESH)


def shared_again() -> list[dict[str, Any]]:
    """One shared head with RoPE, to hold against RoPE alone, with fresh seeds."""
    return each(of_model, ("MQA and RoPE",), (SHARE,), FRESH)


def adamw_alone() -> list[dict[str, Any]]:
    """Without Muon, at the best of the three rates in `rates`."""
    return each(of_adamw, ("baseline", "SwiGLU"), SEEDS)


def of_adamw(name: str, seed: int) -> dict[str, Any]:
    """One model that learned stories by AdamW alone."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    optimiser = optimisers.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99))
    with kernels.fused():
        run(model, optimiser, partial(story_batch, seed), STEPS)
        return {"model": name, "seed": seed, "excess": excess(model)}


# --- Loss by kind of word ------------------------------------------------------------------------


def kinds() -> list[dict[str, Any]]:
    """Which words the loss of a model lies on."""
    names = ("baseline", "SwiGLU", "Llama's block", "Qwen3's block")
    return each(of_kinds, names, SEEDS)


def kinds_of_attention() -> list[dict[str, Any]]:
    """The same of other ways to look."""
    names = ("window of 32", "window of 8", "MQA", "one head of 64")
    return each(of_kinds, names, SEEDS)


def of_kinds(name: str, seed: int) -> dict[str, Any]:
    """One model that learned stories."""
    return {"model": name, "seed": seed, **by_kind(trained(name, SHARE, seed, STEPS)[0])}


def kind_of(words: list[str], at: int, answers: dict[int, str]) -> str:
    """What the word at this place is. (The end of a story has the place behind its words.)"""
    word = [*words, stories.END][at]
    if at in answers:
        return answers[at]
    if word in story_grammar.PRONOUNS:
        return "name again" if word in words[:at] else "new name"
    if word in (*story_grammar.ONE, *story_grammar.MANY):
        return "thing"
    if word in story_grammar.PLACES and words[at - 1] == "the":
        return "found where"
    return "other"


@torch.no_grad()
def by_kind(model: nn.Module, n_stories: int = 150) -> dict[str, dict[str, float]]:
    """For each kind of word the loss and the lowest that is possible, in nats for a word of it.

    And its part of the excess, in nats for a word of the text.
    """
    held_out = stories.validation(n_stories)
    inputs, targets = story_rows(held_out)
    losses = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
    found: dict[str, list[tuple[float, float]]] = {}
    for words, row in zip(held_out, losses.tolist(), strict=True):
        answers = {len(asked.words): f"answer, {asked.kind}" for asked in stories.questions(words)}
        for at, word in enumerate([*words, stories.END]):
            best = -math.log(stories.next_words(words[:at])[word])
            found.setdefault(kind_of(words, at, answers), []).append((row[at], best))
    total = sum(map(len, found.values()))
    sums = {kind: [sum(each) for each in zip(*pairs, strict=True)] for kind, pairs in found.items()}
    return {
        "loss": {kind: round(sums[kind][0] / len(found[kind]), 3) for kind in sorted(found)},
        "floor": {kind: round(sums[kind][1] / len(found[kind]), 3) for kind in sorted(found)},
        "part": {kind: round((sums[kind][0] - sums[kind][1]) / total, 4) for kind in sorted(found)},
    }


# --- Facts, and questions about them ------------------------------------------------------------

N_FACTS, N_VALUES = 24, 5


def recall_batch(seed: int, step: int, n_rows: int = 16) -> training.Batch:
    """Every key with some value, a token for both, in any order; then every key alone is asked for.

    Only answers count, and an answer stands nowhere in the text. (Ids are those of words of the
    stories, so that the models are the same.) After multi-query recall, Arora et al. 2023.
    """
    random = torch.Generator().manual_seed(1_000_003 * seed + step)
    told, asked = (
        torch.rand(n_rows, N_FACTS, generator=random).argsort(1) for _ in ("told", "asked")
    )
    values = torch.randint(N_VALUES, (n_rows, N_FACTS), generator=random)
    facts, questions = told * N_VALUES + values, N_FACTS * N_VALUES + asked
    answers = N_FACTS * (N_VALUES + 1) + values.gather(1, told.argsort(1).gather(1, asked))
    inputs = torch.cat([facts, questions], 1)
    return inputs, torch.cat([torch.full_like(facts, -100), answers], 1)


def recall() -> list[dict[str, Any]]:
    """Which ways to look can remember: loss of an answer; chance is the logarithm of N_VALUES."""
    names = ("baseline", "MQA", "one head of 64", "one head of 16", "latent of 24")
    windows = ("window of 32", "window of 8", "window of 1")
    return each(of_recall, (*names, *windows), SEEDS)


def of_recall(name: str, seed: int) -> dict[str, Any]:
    """One model that learned to remember."""
    model, _ = trained(name, SHARE, seed, 150, recall_batch)
    loss = training.evaluate(model, [recall_batch(1000, 0, 200)])
    return {"model": name, "seed": seed, "loss": round(loss, 4)}


# --- Texts longer than in training ---------------------------------------------------------------

SHORT = 48


def length() -> list[dict[str, Any]]:
    """Trained on pieces of 48 words: loss on whole stories, by place."""
    return each(of_length, ("baseline", "RoPE", "no positions"), SEEDS)


def piece(seed: int, step: int) -> training.Batch:
    """Pieces from anywhere in stories, so that all their words are met in training."""
    inputs, targets = story_batch(seed, step)
    start = int(torch.randint(CONTEXT - SHORT, (1,), generator=torch.Generator().manual_seed(step)))
    return inputs[:, start : start + SHORT], targets[:, start : start + SHORT]


@torch.no_grad()
def by_place(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, list]:
    """Loss by place of the text, in bins of eight places, and the words that are in each."""
    losses = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
    counted = (targets != -100).float()
    sums, counts = (
        [part.sum().item() for part in numbers.sum(0).split(8)] for numbers in (losses, counted)
    )
    found = [(total / n, n) for total, n in zip(sums, counts, strict=True) if n > 200]
    return {"by_place": [round(loss, 3) for loss, _ in found], "words": [int(n) for _, n in found]}


def lowest() -> list[dict[str, Any]]:
    """The lowest loss that is possible on the same stories, in the same bins."""
    found: dict[int, list[float]] = {}
    for words in stories.validation(400):
        for at, word in enumerate([*words, stories.END]):
            best = -math.log(stories.next_words(words[:at])[word])
            found.setdefault(at // 8, []).append(best)
    bins = [each for _, each in sorted(found.items()) if len(each) > 200]
    return [{"by_place": [round(sum(each) / len(each), 3) for each in bins]}]


def of_length(name: str, seed: int) -> dict[str, Any]:
    """One model that learned from pieces."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    optimiser = optimisers.muon_and_adamw(model, 0.02 * SHARE, 8e-3 * SHARE)
    with kernels.fused():
        run(model, optimiser, partial(piece, seed), STEPS)
        found = by_place(model, *story_rows(stories.validation(400)))
        return {"model": name, "seed": seed, **found}


# --- QK-norm at large rates ----------------------------------------------------------------------


def rates() -> list[dict[str, Any]]:
    """With norms on queries and keys, and without, at ever larger rates of AdamW."""
    return each(of_rate, ("RoPE", "QK"), (3e-3, 1e-2, 3e-2), SEEDS)


def of_rate(name: str, rate: float, seed: int) -> dict[str, Any]:
    """Excess after 200 steps, and the largest score between a query and a key."""
    torch.manual_seed(seed)
    model = swapped(
        lambda: grouped(N_HEADS, **(normed() if name == "QK" else {})), learned_positions=False
    )
    optimiser = optimisers.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99))
    with kernels.fused():
        run(model, optimiser, partial(story_batch, seed), 200)
        found = excess(model)
    return {
        **{"norms": name == "QK", "rate": rate, "seed": seed},
        **{"excess": found, "largest": largest_score(model)},
    }


@torch.no_grad()
def largest_score(model: decoder.GPT) -> float:
    """The largest size of a scaled score, on twenty stories."""
    sizes = []

    def look(module: Any, args: tuple, output: Tensor) -> None:
        query, key, _ = module.heads(args[0], args[0])
        scores = attention.attention_scores(query, key) * attention.score_scale(query.shape[-1])
        sizes.append(scores.abs().max().item())

    blocks: Any = model.blocks
    hooks = [block.attention.register_forward_hook(look) for block in blocks]
    model(story_rows(stories.validation(20))[0])
    for hook in hooks:
        hook.remove()
    return round(max(sizes), 1)


# --- Experts -------------------------------------------------------------------------------------


def balance() -> list[dict[str, Any]]:
    """Eight experts with the balancing loss and without it: who reads what."""
    return each(of_balance, (0.0, 0.01), (*SEEDS, 3, 4, 5))


def of_balance(weight: float, seed: int) -> dict[str, Any]:
    """One model of experts; the share of all choices that each expert of each block got."""
    torch.manual_seed(seed)
    model = mixtral()
    heard: list[Tensor] = []
    blocks: Any = model.blocks
    routers = [block.feed_forward.router for block in blocks]
    for router in routers:
        router.register_forward_hook(lambda module, args, output: heard.append(output))

    def unevenness() -> Tensor | float:
        logits, heard[:] = list(heard), []
        each = [modern.balance_loss(one, modern.route(one, 2)[0]) for one in logits]
        return weight * sum(each)

    optimiser = optimisers.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99))
    with kernels.fused():
        run(model, optimiser, partial(story_batch, seed), 200, unevenness)
        found = excess(model)
    heard.clear()
    inputs, targets = story_rows(stories.validation(100))
    with torch.no_grad():
        model(inputs)
    read = (targets != -100).flatten()
    counts = [modern.route(one, 2)[0][read].flatten().bincount(minlength=8) for one in heard]
    shares = [[round(share, 4) for share in (n / n.sum()).tolist()] for n in counts]
    return {"weight": weight, "seed": seed, "excess": found, "shares": shares}


# --- Sinks ---------------------------------------------------------------------------------------

N_LETTERS, TRIGGER, BEGIN = 16, 16, 17


def copy_back(
    n_rows: int, n_tokens: int, random: torch.Generator, begin: int = 0
) -> training.Batch:
    """Letters, each mostly followed by its favourites. Behind a trigger comes what stood before it.

    Only there is anything to be looked for. BEGIN stands at the place `begin`; at -1, nowhere.
    """
    chain = torch.rand(N_LETTERS, N_LETTERS, generator=torch.Generator().manual_seed(5)) ** 6
    ids = torch.full((n_rows, n_tokens + 1), BEGIN)
    for at in (*range(begin), begin + 1):
        ids[:, at] = torch.randint(N_LETTERS, (n_rows,), generator=random)
    for at in range(begin + 2, n_tokens + 1):
        before, last = ids[:, at - 2], ids[:, at - 1]
        drawn = torch.multinomial(chain[last.clamp_max(N_LETTERS - 1)], 1, generator=random)[:, 0]
        calls = torch.rand(n_rows, generator=random) < 0.15
        drawn = torch.where(calls & (last < N_LETTERS), TRIGGER, drawn)
        ids[:, at] = torch.where(last == TRIGGER, before, drawn)
    return decoder.shift_targets(ids)


def reader(norms: bool) -> decoder.GPT:
    """One head, one layer, no feed-forward net."""
    norms_of: dict[str, Any] = normed(32) if norms else {}
    head = GroupedAttention(32, 1, 1, biases="qkvo", **norms_of)
    block = encoder.TransformerBlock(head, Nothing(), LayerNorm(32), nn.Identity())
    model = decoder.GPT(
        projection.Embedding(18, 32), [block], LayerNorm(32), projection.Linear(32, 18)
    )
    training.init_weights(model, 1)
    return model


class Nothing(nn.Module):
    """Adds nothing to the stream."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def sinks() -> list[dict[str, Any]]:
    """Where a head looks that has nothing to do, and what a window then costs."""
    return each(of_sinks, (False, True), SEEDS)


def trained_reader(norms: bool, seed: int, begin: int = 0) -> tuple[decoder.GPT, training.Batch]:
    """One that learned the language, and texts to examine it with."""
    torch.manual_seed(seed)
    model, random = reader(norms), torch.Generator().manual_seed(seed)
    optimiser = optimisers.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99))
    with kernels.fused():
        run(model, optimiser, lambda step: copy_back(32, 64, random, begin), 500)
    return model, copy_back(200, 64, torch.Generator().manual_seed(1000), begin)


def looks(model: decoder.GPT, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Where each token looks, from the seventeenth on, and which of them have something to do."""
    with torch.no_grad(), attention.record() as maps:
        model(inputs)
    (weights,) = maps.values()
    return weights[:, 0, 16:], inputs[:, 16:] == TRIGGER


def begins() -> list[dict[str, Any]]:
    """The same with BEGIN first, second, and nowhere: does a sink need a special token?"""
    return each(of_begin, (0, 1, -1), SEEDS)


def of_begin(begin: int, seed: int) -> dict[str, Any]:
    """What idle tokens give to the first, to the second, and at most to any other place."""
    model, (inputs, _) = trained_reader(False, seed, begin)
    weights, busy = looks(model, inputs)
    first, second, *others = (round(w, 3) for w in weights[~busy].mean(0).tolist())
    return {"begin": begin, "seed": seed, "first": first, "second": second, "other": max(others)}


def of_sinks(norms: bool, seed: int) -> dict[str, Any]:
    model, exam = trained_reader(norms, seed)
    inputs, _ = exam
    weights, busy = looks(model, inputs)
    first = weights[:, :, 0]
    return {
        **{"norms": norms, "seed": seed},
        **{
            "idle": round(first[~busy].mean().item(), 3),
            "busy": round(first[busy].mean().item(), 3),
        },
        "loss": round(training.evaluate(model, [exam]), 4),
        "windows": {
            window: {
                name: round(windowed_loss(model, exam, window, kept), 4)
                for name, kept in in_sight(inputs.shape[1]).items()
            }
            for window in (2, 4, 8)
        },
    }


def in_sight(n_tokens: int) -> dict[str, Tensor]:
    """What a query may look at beside its window: no more, one token, or any one before it."""
    drawn = torch.rand(n_tokens, generator=torch.Generator().manual_seed(0))
    places = torch.arange(n_tokens).expand(n_tokens, -1)
    return {
        "nothing": places < 0,
        "the first": places == 0,
        "the second": places == 1,
        "any one": F.one_hot((drawn * places[0]).long(), n_tokens).bool(),
    }


class Narrow(nn.Module):
    """Only the last `window` tokens are looked at, and what is `kept` in sight."""

    def __init__(self, inner: nn.Module, window: int, kept: Tensor):
        super().__init__()
        self.inner, self.window, self.kept = inner, window, kept

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        allowed = modern.sliding_window_mask(x.shape[1], self.window) | self.kept
        return self.inner(x, mask=mask & allowed)


def windowed_loss(model: decoder.GPT, exam: training.Batch, window: int, kept: Tensor) -> float:
    """Loss of a trained model whose head now sees a window, and what is kept in sight."""
    block: Any = model.blocks[0]
    inner = block.attention
    block.attention = Narrow(inner, window, kept)
    loss = training.evaluate(model, [exam])
    block.attention = inner
    return loss


EXPERIMENTS = {
    one.__name__: one
    for one in (
        *(sinks, length, control, swaps, again, balance, rates, longer, other_rates),
        *(
            first_weights,
            begins,
            kinds,
            kinds_of_attention,
            adamw_alone,
            one_head_again,
            shared_again,
            lowest,
            recall,
        ),
    )
}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
