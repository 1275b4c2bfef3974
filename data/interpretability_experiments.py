"""What notebook 11 has no time for: other first weights, heads that grow, a sparse autoencoder.

    .venv/bin/python data/interpretability_experiments.py [circuits] [looks] [growing] …

runs all that stands in EXPERIMENTS, or what is named, and writes
`interpretability_experiments.json` beside this script. A story-teller is trained once, which takes
minutes, and kept in `build/tellers`.
"""

import runpy
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from course_utils import attention, decoder, interpretability, modern, positions
from course_utils.corpora import sentences, stories, story_forms, story_grammar
from course_utils.families import pretrained
from course_utils.projection import Embedding, Linear
from course_utils.runs import kernels, loop, optimisers
from course_utils.runs.experiments import write_down

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "interpretability_experiments.json"
Row = dict[str, Any]

# --- The story-teller from other first weights ---------------------------------------------------

SEEDS = range(3)
FORMS = {"place": story_forms.WHERE, "colour": story_forms.COLOUR}
HEADS = [(layer, head) for layer in range(2) for head in range(2)]
SUBSETS = [kept for size in range(5) for kept in combinations(HEADS, size)]
DRAWS = [story_forms.several(seed, 60) for seed in (10, 11, 12)]  # the notebook has its own
OTHERS = story_forms.several(99, 60)  # some share an answer: `shared` says how many


def teller(seed: int) -> decoder.GPT:
    """The shipped story-teller for seed 0, else the same recipe from other first weights."""
    if seed == 0:
        return pretrained.stories_model()
    script = runpy.run_path(str(FOLDER / "train_stories_model.py"))
    script["batches"].__globals__["SEED"] = seed  # of the weights, and of what is told
    model, kept = script["new_model"](), FOLDER.parent / "build" / "tellers" / f"{seed}.safetensors"
    if kept.exists():
        model.load_state_dict(load_file(kept))
        return model.eval()
    plan = loop.Schedule(steps=2400, warmup=48, seed=seed)
    with kernels.fused():
        loop.train(model, optimisers.muon_and_adamw(model), script["batches"], plan)
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), kept)
    return model.eval()


def named(head: tuple[int, int]) -> str:
    """ "0.1" for layer 0, head 1."""
    return f"{head[0]}.{head[1]}"


# What stands in the place of a head that is off, made of its outputs in other stories.
WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda there: there.mean((0, 1)).expand_as(there),
    "mean here": lambda there: there.mean(0).expand_as(there),
    "resampled": lambda there: there,
}


@torch.no_grad()
def circuits() -> list[Row]:
    """Right answers with each set of heads, all others off, in three ways."""
    return [
        {"seed": seed, "kind": kind, "kept": [named(head) for head in kept], "way": way} | right
        for seed in SEEDS
        for model in [teller(seed)]
        for kind, form in FORMS.items()
        for outputs in [interpretability.head_outputs(model, story_forms.told(form, OTHERS))]
        for kept in SUBSETS
        for way in WAYS
        for off in [switched_off(outputs, [head for head in HEADS if head not in kept], way)]
        for right in [{"right": right_at(model, form, -1, DRAWS, off)}]
    ]


Off = dict[tuple[int, int], Tensor]


def switched_off(outputs: list[Tensor], heads: Sequence[tuple[int, int]], way: str) -> Off:
    """What stands in the place of these heads."""
    return {(a, b): WAYS[way](outputs[a][:, :, b]) for a, b in heads}


def right_at(
    model: decoder.GPT, form: str, at: int, sets: Sequence[Sequence[dict[str, str]]], off: Off
) -> list[float]:
    """How often the word behind `at` is right in each set of stories, with some heads off."""
    with interpretability.ablate_heads(model, off):
        return [round(hits(model, form, rows)[:, at].mean().item(), 3) for rows in sets]


def hits(
    model: decoder.GPT, form: str, rows: Sequence[dict[str, str]]
) -> Float[Tensor, "batch tokens"]:
    """1 where the model finds the next word the likeliest, the answer the last of them."""
    ids = story_forms.told(form, rows)
    wanted = torch.cat((ids[:, 1:], story_forms.answers(form, rows)[:, None]), 1)
    return (model(ids).argmax(-1) == wanted).double()


WHERE, COLOUR = story_forms.WHERE, story_forms.COLOUR
ANSWER = {kind: len(form.split()) for kind, form in FORMS.items()}
# What is said, in which form, at which word it is known, and by which blank it is told.
SAID = {
    "thing": (WHERE, story_forms.place_of(WHERE, "asked") - 1, "asked"),
    "first place": (WHERE, story_forms.place_of(WHERE, "first") - 1, "first"),
    "he or she": (WHERE, story_forms.place_of(WHERE, "he") - 1, "tom"),
    "place": (WHERE, ANSWER["place"], "answer"),
    "colour": (COLOUR, ANSWER["colour"], "answer"),
}


@torch.no_grad()
def looks() -> list[Row]:
    """How much each head looks at the word that tells, and what is right without the head."""
    return [row | {"seed": seed} for seed in SEEDS for row in looks_of(teller(seed))]


def looks_of(model: decoder.GPT) -> list[Row]:
    """A row for each word said and each head, with a number for each draw of stories.

    "right" is that of the whole model, "no_heads" with all four at their mean here, "without" with
    this one resampled, "without_here" resampled at the word before only, where its weight is taken.
    """
    found = []
    for said, (form, at, blank) in SAID.items():
        weights = [weight_on(model, form, at, blank, rows) for rows in DRAWS]  # [layer, head] each
        outputs = interpretability.head_outputs(model, story_forms.told(form, OTHERS))
        none = right_at(model, form, at, DRAWS, switched_off(outputs, HEADS, "mean here"))
        for head in HEADS:
            off = switched_off(outputs, [head], "resampled")
            found.append({
                "said": said, "head": named(head),
                "weight": [round(each[head].item(), 3) for each in weights],
                "right": right_at(model, form, at, DRAWS, {}), "no_heads": none,
                "without": right_at(model, form, at, DRAWS, off),
                "without_here": without_here(model, form, at, head, outputs),
            })  # fmt: skip
    return found


def without_here(
    model: decoder.GPT, form: str, at: int, head: tuple[int, int], outputs: list[Tensor]
) -> list[float]:
    """How often the word behind `at` is right with a head resampled at `at`, and only there."""
    (a, b), found = head, []
    for rows in DRAWS:
        given = interpretability.head_outputs(model, story_forms.told(form, rows))[a][:, :, b]
        given[:, at] = outputs[a][:, at, b]
        found += right_at(model, form, at, [rows], {head: given})
    return found


def weight_on(
    model: decoder.GPT, form: str, at: int, blank: str, rows: Sequence[dict[str, str]]
) -> Float[Tensor, "layer n_heads"]:
    """The weight from word `at` on all earlier places of the word that stands in the blank."""
    ids = story_forms.told(form, rows)
    there = (ids == stories.encode(telling(form, blank, rows))[:, None])[
        :, None
    ]  # [batch, 1, tokens]
    with attention.record() as maps:
        model(ids)
    return torch.stack([(each[:, :, at] * there).sum(-1).mean(0) for each in maps.values()])


def telling(form: str, blank: str, rows: Sequence[dict[str, str]]) -> list[str]:
    """The word of each story that stands in the blank, or is its answer."""
    return [story_forms.answer(form, row) if blank == "answer" else row[blank] for row in rows]


def shared(said: str) -> float:
    """In how many stories of all draws the one that lends its values tells the same word."""
    form, _, blank = SAID[said]
    spoken = "he" if said == "he or she" else blank
    others = telling(form, spoken, OTHERS) * len(DRAWS)
    mine = [word for rows in DRAWS for word in telling(form, spoken, rows)]
    return sum(a == b for a, b in zip(mine, others, strict=True)) / len(mine)


# --- A head for grammar, from four first weights --------------------------------------------------

NOUNS = [sentences.GRAMMAR[name] for name in ("ONE", "MANY")]
VERBS = ["is moves waits stops".split(), "are move wait stop".split()]
SUBJECT = 3  # <bos> the old SUBJECT near the big OTHER


@torch.no_grad()
def agreement() -> list[Row]:
    """Which head of the sentences model looks at the subject, and what each is good for."""
    return [row | {"seed": seed} for seed in range(4) for row in agreement_of(grammarian(seed))]


@torch.enable_grad()
def grammarian(seed: int) -> decoder.GPT:
    """The shipped sentences model for seed 0, else the same recipe from other first weights."""
    if seed == 0:
        return pretrained.sentences_model()
    script = runpy.run_path(str(FOLDER / "train_sentences_model.py"))
    script["train"].__globals__["SEED"] = seed
    model = script["new_model"]()
    script["train"](model)
    return model.eval()


def agreement_of(model: decoder.GPT, n_rows: int = 100) -> list[Row]:
    """For each head its weight on the subject, before the verb, and what is right without it."""
    sets = [distracted(seed, n_rows) for seed in (10, 11, 12)]
    others, _ = distracted(99, n_rows)
    outputs = interpretability.head_outputs(model, others)
    found = []
    for layer, there in enumerate(outputs):
        for head in range(there.shape[2]):
            weights = [last_weights(model, ids)[layer][:, head, SUBJECT].mean() for ids, _ in sets]
            whole = [agrees(model, *each) for each in sets]
            with interpretability.ablate_head(model, layer, head, outputs[layer][:, :, head]):
                without = [agrees(model, *each) for each in sets]
            numbers = {"weight": [round(w.item(), 3) for w in weights]}
            numbers |= {"right": whole, "without": without}
            found.append({"head": named((layer, head)), **numbers})
    return found


def distracted(seed: int, n_rows: int) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, " batch"]]:
    """Beginnings "the old car near the big trees" and 1 where the subject is plural.

    The other noun is always of the other number.
    """
    random, rows = Random(seed), []
    for _ in range(n_rows):
        many = random.randrange(2)
        subject, other = (random.choice([*NOUNS[n]]) for n in (many, 1 - many))
        rows.append((f"{sentences.START} the old {subject} near the big {other}".split(), many))
    return torch.stack([sentences.encode(words) for words, _ in rows]), torch.tensor(
        [many for _, many in rows]
    )


def agrees(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"], many: Int[Tensor, " batch"]
) -> float:
    """How often the verbs of the subject's number are likelier, taken together."""
    p = model(ids)[:, -1].softmax(-1)
    it, they = (p[:, sentences.encode(verbs)].sum(-1) for verbs in VERBS)
    return ((they > it) == many.bool()).double().mean().item()


def last_weights(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"]
) -> list[Float[Tensor, "batch n_heads tokens"]]:
    """Where the last word looks, layer by layer."""
    with attention.record() as maps:
        model(ids)
    return [each[:, :, -1] for each in maps.values()]


# --- A sparse autoencoder beside a difference of means -------------------------------------------

D_MODEL, N_FEATURES, N_ACTIVE = 64, 512, 8
SAYABLE = {"place": story_grammar.PLACES, "colour": story_grammar.COLOURS}


class SparseAutoencoder(nn.Module):
    """Gives a vector back from the few features that it finds in it (Gao et al. 2024, §2.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = Linear(D_MODEL, N_FEATURES), Linear(N_FEATURES, D_MODEL)

    def features(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch features"]:
        """At most `N_ACTIVE` of them are not 0."""
        found = (self.up(x - self.down.bias)).relu()
        most = found.topk(N_ACTIVE, -1)
        return torch.zeros_like(found).scatter(-1, most.indices, most.values)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.down(self.features(x))


@torch.enable_grad()
def fitted(vectors: Float[Tensor, "rows d"], seed: int, steps: int = 800) -> SparseAutoencoder:
    """Trained to give the vectors back; every feature's direction has length 1."""
    torch.manual_seed(seed)
    model, generator = SparseAutoencoder(), torch.Generator().manual_seed(seed)
    model.down.bias.data = vectors.mean(0)
    _unit_length(model)
    model.up.weight.data = model.down.weight.data.T.clone()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (steps - step) / (0.3 * steps))
    )
    for _ in range(steps):
        some = vectors[torch.randint(len(vectors), (512,), generator=generator)]
        optimiser.zero_grad()
        nn.functional.mse_loss(model(some), some).backward()
        optimiser.step()
        falling.step()
        _unit_length(model)
    return model


@torch.no_grad()
def _unit_length(model: SparseAutoencoder) -> None:
    model.down.weight.div_(model.down.weight.norm(dim=0))


@torch.no_grad()
def autoencoder() -> list[Row]:
    """For each answer its best feature behind block 0, and what is lost when it is taken away.

    The best feature is chosen on some stories; all numbers are those of others.
    """
    model = pretrained.stories_model()
    texts = [[stories.START, *stories.sample(Random(seed))] for seed in range(200)]
    streams = [interpretability.residual_stream(model, stories.encode(t)[None]) for t in texts]
    vectors = torch.cat([each[1, 0] for each in streams])
    size = vectors.norm(dim=-1).mean() / D_MODEL**0.5
    found = []
    for seed in range(3):
        sparse = fitted(vectors / size, seed)
        left = (sparse(vectors / size) - vectors / size).square().sum()
        of_all = (vectors - vectors.mean(0)).square().sum() / size**2
        for kind, words in SAYABLE.items():
            row = {"seed": seed, "explained": round(1 - (left / of_all).item(), 3), "kind": kind}
            found += [row | told for told in taken_away(model, sparse, size, kind, words)]
    return found


def taken_away(
    model: decoder.GPT, sparse: SparseAutoencoder, size: Tensor, kind: str, words: Sequence[str]
) -> list[Row]:
    """Right answers of each word's own stories, and of the others, without four things."""
    form, drawn = FORMS[kind], [story_forms.several(seed, 160) for seed in (60, 61)]
    (chosen, tested), (known, wanted) = (
        [
            interpretability.residual_stream(model, story_forms.told(form, rows))[1]
            for rows in drawn
        ],
        [story_forms.answers(form, rows) for rows in drawn],
    )
    here, there = (sparse.features(x[:, -1] / size) for x in (chosen, tested))
    generator, found = torch.Generator().manual_seed(0), []

    def right(last: Tensor, own: Tensor) -> list[float]:
        given = tested.clone()
        given[:, -1] = last
        with interpretability.patch(model.blocks[0], given, [-1]):
            good = model(story_forms.told(form, drawn[1]))[:, -1].argmax(-1) == wanted
        return [round(good[which].double().mean().item(), 3) for which in (own, ~own)]

    for word in words:
        (number,) = stories.encode([word])
        best = int(f1(here > 0, known == number).argmax())
        own, last = wanted == number, tested[:, -1]
        feature = sparse.down.weight[:, best]
        means = chosen[known == number, -1].mean(0) - chosen[known != number, -1].mean(0)
        found.append({
            "word": word,
            "f1": round(f1(there[:, [best]] > 0, own).item(), 3),
            "off": right(last - there[:, [best]] * feature * size, own),
            "feature": right(without_direction(last, feature), own),
            "means": right(without_direction(last, means), own),
            "random": right(
                without_direction(last, torch.randn(D_MODEL, generator=generator)), own
            ),
        })  # fmt: skip
    return found


def f1(said: Tensor, true: Tensor) -> Tensor:
    """Of each column of `said`: twice what both have, over what each has."""
    both = (said & true[:, None]).sum(0)
    return 2 * both / (said.sum(0) + true.sum())


def without_direction(x: Float[Tensor, "rows d"], direction: Float[Tensor, " d"]) -> Tensor:
    """The rows, with nothing left that points in this direction."""
    unit = direction / direction.norm()
    return x - (x @ unit)[:, None] * unit


# --- Heads that grow: as in section 13 of the notebook -------------------------------------------


class AttentionOnly(nn.Module):
    """A block without a feed-forward net."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm = modern.RMSNorm(d_model)
        self.attention = positions.RotaryAttention(d_model, n_heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.attention(self.norm(x), mask=mask)


WORDS, PERIOD, LENGTH = 50, 20, 48


def repeating(n_rows: int, period: int, generator: torch.Generator) -> Int[Tensor, "batch tokens"]:
    """Random tokens that repeat themselves after `period`."""
    once = torch.randint(WORDS, (n_rows, period), generator=generator)
    return once.repeat(1, LENGTH // period + 1)[:, :LENGTH]


def loss_of(model: nn.Module, rows: Int[Tensor, "batch tokens"], period: int) -> Tensor:
    """Nats a token, from the second time on."""
    logits = model(rows[:, :-1])[:, period:]
    return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, period + 1 :].flatten())


def grow(
    n_layers: int, seed: int, periods: Sequence[int], steps: int = 240, rate: float = 3e-3
) -> tuple[decoder.GPT, list[Row]]:
    """Train, and look every 20 steps: loss, best previous-token and best induction score."""
    torch.manual_seed(seed)
    blocks = [AttentionOnly(64, 2) for _ in range(n_layers)]
    head = Linear(64, WORDS, bias=False)
    model = decoder.GPT(Embedding(WORDS, 64), blocks, modern.RMSNorm(64), head)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    generator, random = torch.Generator().manual_seed(seed), Random(seed)
    test, log = repeating(32, PERIOD, torch.Generator().manual_seed(99)), []
    for step in range(steps + 1):
        if step % 20 == 0:
            with torch.no_grad(), attention.record() as maps:
                loss = loss_of(model, test, PERIOD).item()
            before = max(interpretability.head_scores(m)["previous"].max() for m in maps.values())
            copy = max(interpretability.induction_score(m, PERIOD).max() for m in maps.values())
            scores = {"previous": before.item(), "induction": copy.item()}
            log.append({"step": step, "loss": loss, **scores})
        period = random.choice(periods)
        optimiser.zero_grad()
        loss_of(model, repeating(32, period, generator), period).backward()
        optimiser.step()
    return model, log


def repeated(model: decoder.GPT, period: int) -> float:
    """Loss on fresh texts of this period."""
    rows = repeating(32, period, torch.Generator().manual_seed(100 + period))
    with torch.no_grad():
        return loss_of(model, rows, period).item()


def scores_of(model: decoder.GPT, period: int) -> dict[str, Float[Tensor, "layer n_heads"]]:
    """Previous-token and induction score of every head."""
    with torch.no_grad(), attention.record() as maps:
        model(repeating(32, period, torch.Generator().manual_seed(100 + period)))
    return {
        "previous": torch.stack(
            [interpretability.head_scores(m)["previous"] for m in maps.values()]
        ),
        "induction": torch.stack(
            [interpretability.induction_score(m, period) for m in maps.values()]
        ),
    }


LOGGED = ("loss", "previous", "induction")


def growing() -> list[Row]:
    """One layer and two, three seeds, the period varied; and one layer that always has 20.

    Of each, its last row and all that it logged, every 20 steps; its loss on other periods, of
    which no training had 6 and 35; and what is left without the head that looks at the token
    before, and without the other of its layer.
    """
    varied: Sequence[int] = range(10, 30)
    plan = [(n_layers, seed, varied) for n_layers in (1, 2) for seed in range(3)]
    plan += [(1, seed, [PERIOD]) for seed in range(3)]
    found = []
    for n_layers, seed, periods in plan:
        model, log = grow(n_layers, seed, periods)
        row = {"n_layers": n_layers, "seed": seed, "varied": len(periods) > 1, **log[-1]}
        row |= {f"log_{name}": [round(each[name], 3) for each in log] for name in LOGGED}
        row |= {f"loss_{other}": repeated(model, other) for other in (6, 15, 35)}
        found.append(row | without_previous(model))
    return found


def without_previous(model: decoder.GPT) -> Row:
    """Layer 0 without its head that looks most at the token before, without the other, and both.

    Each is zero. "previous_each" is how much the two look at the token before.
    """
    scores = scores_of(model, PERIOD)["previous"][0]
    head = int(scores.argmax())
    left: Row = {"previous_each": [round(x.item(), 3) for x in scores.sort(descending=True).values]}
    for name, off in (("previous", [head]), ("other", [1 - head]), ("both", [0, 1])):
        with interpretability.ablate_heads(model, {(0, each): None for each in off}):
            induction = scores_of(model, PERIOD)["induction"].max().item()
            left |= {f"loss_without_{name}": repeated(model, PERIOD)}
            left |= {f"induction_without_{name}": induction}
    return left


@torch.no_grad()
def composition() -> list[Row]:
    """What layer 1 of the two-layer models reads from layer 0, and which of its heads copies.

    "reads": queries, keys or values made of the bare embedding instead (Elhage et al. 2021), loss
    and induction score. "without": loss without each head of layer 1, and without both, each
    at 0 and at what it gives in other texts; the head with the higher induction score first.
    "copies": how often such a head, looking at a token, makes it the likeliest of all.
    """
    return [{"seed": seed} | composed(_grown(seed)) for seed in SEEDS]


@torch.enable_grad()
def _grown(seed: int) -> decoder.GPT:
    return grow(2, seed, range(10, 30))[0]


def composed(model: Any) -> Row:
    """A row of `composition`."""
    rows = repeating(32, PERIOD, torch.Generator().manual_seed(100 + PERIOD))[:, :-1]
    block, reads = model.blocks[1], {}
    bare = block.norm(model.embed(rows))
    for name in ("w_q", "w_k", "w_v"):
        part = getattr(block.attention, name)
        with interpretability.patch(part, part(bare), range(rows.shape[1])):
            score = scores_of(model, PERIOD)["induction"][1].max().item()
            reads[name] = {"loss": round(repeated(model, PERIOD), 3), "induction": round(score, 3)}
    heads = scores_of(model, PERIOD)["induction"][1].argsort(descending=True).tolist()
    other = repeating(32, PERIOD, torch.Generator().manual_seed(7))[:, :-1]
    given, without = interpretability.head_outputs(model, other)[1], {}
    for name, off in (("first", heads[:1]), ("second", heads[1:]), ("both", heads)):
        for way in ("zero", "resampled"):
            there = {(1, n): None if way == "zero" else given[:, :, n] for n in off}
            with interpretability.ablate_heads(model, there):
                without[f"{name}, {way}"] = round(repeated(model, PERIOD), 3)
    return {"reads": reads, "without": without, "copies": [copies(model, n) for n in heads]}


def copies(model: Any, head: int) -> float:
    """The share of tokens that this head of layer 1 makes likeliest where it looks at them."""
    tokens, block = torch.arange(WORDS), model.blocks[1]
    x = block.norm(model.embed(tokens))[:, None]
    _, _, value = block.attention.heads(x, x)
    written = value[:, head, 0] @ block.attention.w_o.weight.unflatten(-1, (2, 32))[:, head].T
    said = model.head(written * model.norm.weight).argmax(-1)
    return (said == tokens).double().mean().item()


def plateau() -> list[Row]:
    """Three rates: two layers with 240 steps, one layer with twice as many."""
    return [
        {"n_layers": n_layers, "rate": rate, **grow(n_layers, 0, range(10, 30), steps, rate)[1][-1]}
        for n_layers, steps in ((1, 480), (2, 240))
        for rate in (1e-3, 3e-3, 1e-2)
    ]


EXPERIMENTS = {
    each.__name__: each
    for each in (circuits, looks, agreement, autoencoder, growing, composition, plateau)
}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
