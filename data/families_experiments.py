"""Run the experiments of notebook 15 that take too long for it, and write down what came out.

python data/families_experiments.py           all of them, about twenty-five minutes on one core
python data/families_experiments.py families  only those that are named

The results go to families_experiments.json beside this script. All models learn from the grammar
of `corpora.sentences`, whose exact probabilities are known.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils import decoder, encoder, objectives, training
from course_utils.corpora import labelled, sentences
from course_utils.projection import Linear
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
D_MODEL, N_HEADS, CONTEXT, BATCH = 64, 4, 16, 32

# --- Words as numbers: those of the corpus, and five that objectives need ------------------------

N_WORDS = len(sentences.VOCABULARY)
PAD, MASK, SENTINEL = N_WORDS, N_WORDS + 1, N_WORDS + 2
VOCABULARY = (*sentences.VOCABULARY, "<pad>", "<mask>", "<0>", "<1>", "<2>")
START, END = sentences.encode([sentences.START, sentences.END]).tolist()
Text = list[str]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """One row each, filled up with <pad>."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, PAD)


def numbers(text: Text) -> list[int]:
    return sentences.encode(text).tolist()


def whole(texts: Sequence[Text]) -> Tensor:
    """Rows of <bos>, the words, a full stop, and padding."""
    return padded([[START, *numbers(text), END] for text in texts])


def asked(ids: Tensor) -> Tensor:
    """Targets: nothing is asked at padding."""
    return ids.masked_fill(ids == PAD, training.NOT_COUNTED)


# --- Four objectives -----------------------------------------------------------------------------


class Objective:
    """A model, what it is asked while it learns, and how it is asked to fill a gap."""

    def make(self) -> nn.Module:
        raise NotImplementedError

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        """What the model reads, and last the targets."""
        raise NotImplementedError

    def logits(self, model: nn.Module, *read: Tensor) -> Tensor:
        return model(*read)

    def fill(self, model: nn.Module, texts: Sequence[Text], places: Sequence[int]) -> Tensor:
        """Log-probability of every word of the corpus at one place of each text, given all others.

        Here: of all texts that differ in this word, as the model scores them. A pass for each word.
        """
        scored = [
            self.score(model, with_each_word(text, place), place)
            for text, place in zip(texts, places, strict=True)
        ]
        return torch.stack(scored).log_softmax(-1)

    def score(self, model: nn.Module, texts: Sequence[Text], place: int) -> Tensor:
        """Log-probability of each of these texts, which differ at `place` only."""
        raise NotImplementedError


def with_word(text: Text, place: int, word: str) -> Text:
    return [*text[:place], word, *text[place + 1 :]]


def with_each_word(text: Text, place: int) -> list[Text]:
    return [with_word(text, place, word) for word in sentences.VOCABULARY]


def log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each row of targets."""
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return -losses.sum(1)


class Masked(Objective):
    """BERT: 15 % of the words are asked, most of them hidden. One pass fills a gap."""

    def make(self) -> nn.Module:
        return objectives.masked_model(len(VOCABULARY), D_MODEL, N_HEADS, 2, CONTEXT)

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        ids = whole(texts)
        special = (ids == START) | (ids == END) | (ids == PAD)
        return objectives.mask_tokens(ids, 0.15, MASK, N_WORDS, special, generator)

    def logits(self, model: nn.Module, *read: Tensor) -> Tensor:
        (ids,) = read
        return model(ids, encoder.padding_mask(ids, PAD))

    def fill(self, model: nn.Module, texts: Sequence[Text], places: Sequence[int]) -> Tensor:
        ids, rows = whole(texts), torch.arange(len(texts))
        at = torch.tensor(places) + 1  # <bos> is token 0
        ids[rows, at] = MASK
        return self.logits(model, ids)[rows, at, :N_WORDS].log_softmax(-1)


class Causal(Objective):
    """GPT: every word is asked, from those on its left."""

    def make(self) -> nn.Module:
        return decoder.gpt(len(VOCABULARY), D_MODEL, N_HEADS, 2, CONTEXT)

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        ids, targets = decoder.shift_targets(whole(texts))
        return ids, asked(targets)

    def score(self, model: nn.Module, texts: Sequence[Text], place: int) -> Tensor:
        ids, targets = self.question(texts, torch.Generator())
        return log_probability(model(ids), targets)

    def from_the_left(
        self, model: nn.Module, texts: Sequence[Text], places: Sequence[int]
    ) -> Tensor:
        """What one pass says at the gap, which has not seen what stands behind it."""
        rows = torch.arange(len(texts))
        return model(whole(texts))[rows, torch.tensor(places), :N_WORDS].log_softmax(-1)


class TwoTexts(Objective):
    """Encoder and decoder: a text with holes is read, and something is written."""

    def make(self) -> nn.Module:
        return objectives.seq2seq(len(VOCABULARY), D_MODEL, N_HEADS, 1, CONTEXT)

    def cut(self, text: Text, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Source and target."""
        raise NotImplementedError

    def lengths(self, n_words: int, generator: torch.Generator) -> list[int]:
        raise NotImplementedError

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        return self.rows([self.cut(text, self.spans(len(text), generator)) for text in texts])

    def spans(self, n_words: int, generator: torch.Generator) -> list[tuple[int, int]]:
        """Holes in the words; as many as there is room for."""
        lengths = self.lengths(n_words, generator)
        room = n_words - sum(lengths) + 1
        return objectives.draw_spans(n_words, lengths[-room:], generator)

    def rows(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, ...]:
        targets = padded([[START, *target] for _, target in pairs])
        read, said = decoder.shift_targets(targets)
        return padded([source for source, _ in pairs]), read, asked(said)

    def logits(self, model: nn.Module, *read: Tensor) -> Tensor:
        source, target = read
        return model(source, target, encoder.padding_mask(source, PAD))

    def score(self, model: nn.Module, texts: Sequence[Text], place: int) -> Tensor:
        *read, targets = self.rows([self.cut(text, [(place, 1)]) for text in texts])
        return log_probability(self.logits(model, *read), targets)


class SpanCorruption(TwoTexts):
    """T5: 15 % of the words are cut out, and only these are written."""

    def cut(self, text: Text, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        source, target = objectives.span_corrupt(numbers(text), spans, SENTINEL)
        return [*source, END], target

    def lengths(self, n_words: int, generator: torch.Generator) -> list[int]:
        return objectives.even_lengths(n_words, generator)


class Infilling(TwoTexts):
    """BART: 30 % of the words are cut out, and the whole text is written."""

    def cut(self, text: Text, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        ids = numbers(text)
        return [*objectives.infill(ids, spans, MASK), END], [*ids, END]

    def lengths(self, n_words: int, generator: torch.Generator) -> list[int]:
        return objectives.poisson_lengths(n_words, generator)


OBJECTIVES: dict[str, Objective] = {
    "masked": Masked(),
    "causal": Causal(),
    "spans": SpanCorruption(),
    "infilling": Infilling(),
}

# --- What is known exactly -----------------------------------------------------------------------

NUMBER = {noun: kind for kind in ("ONE", "MANY") for noun in sentences.GRAMMAR[kind]}
VERBS = ["is", "are", *sentences.GRAMMAR["IT_ACTS"], *sentences.GRAMMAR["THEY_ACT"]]


def truth(text: Text, place: int) -> Tensor:
    """Exact probability of every word at a place, given all others: by Bayes, from whole texts."""
    tried = with_each_word(text, place)
    return torch.tensor([sentences.log_probability(one) for one in tried]).softmax(0)


def truth_from_the_left(text: Text, place: int) -> Tensor:
    """Exact probability of every word at a place, given those in front of it."""
    follows = sentences.next_words(text[:place])
    return torch.tensor([follows.get(word, 0.0) for word in sentences.VOCABULARY])


def lacking(exact: Tensor, said: Tensor) -> Tensor:
    """Nats a gap that a model loses against somebody who knows: KL(exact || said)."""
    return (exact.xlogy(exact) - exact * said.clamp_min(-100)).sum(-1)


@dataclass(frozen=True)
class Gaps:
    """Texts with a gap each, and the truth about it."""

    texts: list[Text]
    places: list[int]

    @property
    def exact(self) -> Tensor:
        return torch.stack([truth(*gap) for gap in zip(self.texts, self.places, strict=True)])

    @property
    def left(self) -> Tensor:
        pairs = zip(self.texts, self.places, strict=True)
        return torch.stack([truth_from_the_left(*gap) for gap in pairs])


def draw(random: Random) -> Iterator[Text]:
    while True:
        yield sentences.sample(random)


def nouns(text: Text) -> list[int]:
    return [place for place, word in enumerate(text) if word in NUMBER]


def verb(text: Text) -> int:
    return next(place for place, word in enumerate(text) if word in VERBS)


def is_mixed(text: Text) -> bool:
    """Whether it has nouns of both numbers."""
    return len({NUMBER[text[place]] for place in nouns(text)}) == 2


def any_gap(random: Random, n: int) -> Gaps:
    """One word, drawn evenly, is missing in each text."""
    texts = [sentences.sample(random) for _ in range(n)]
    return Gaps(texts, [random.randrange(len(text)) for text in texts])


def subject_gaps(random: Random, n: int) -> Gaps:
    """The first noun is missing; the verb tells its number."""
    texts = [sentences.sample(random) for _ in range(n)]
    return Gaps(texts, [nouns(text)[0] for text in texts])


def verb_gaps(random: Random, n: int) -> Gaps:
    """The verb is missing, and a noun of the other number stands before it."""
    mixed = (text for text in draw(random) if is_mixed(text))
    texts = [text for text, _ in zip(mixed, range(n), strict=False)]
    return Gaps(texts, [verb(text) for text in texts])


def agrees(gaps: Gaps, said: Tensor) -> float:
    """How often the most probable of all verbs agrees with the first noun."""
    ids = sentences.encode(VERBS)
    best = said[:, ids].argmax(1).tolist()
    right = [
        VERBS[choice] in sentences.next_words(text[:place])
        for choice, text, place in zip(best, gaps.texts, gaps.places, strict=True)
    ]
    return fmean(right)


# --- Training ------------------------------------------------------------------------------------


class Course:
    """Texts, question, step: the same loop for all objectives."""

    def __init__(self, objective: Objective, seed: int, rate: float, n_steps: int):
        torch.manual_seed(seed)
        self.objective, self.rate, self.n_steps = objective, rate, n_steps
        self.model = objective.make()
        training.init_weights(self.model, 2)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), rate, (0.9, 0.99))
        self.random, self.generator = Random(seed), torch.Generator().manual_seed(seed)
        self.n_done = self.n_asked = 0

    def loss(self) -> Tensor:
        texts = [sentences.sample(self.random) for _ in range(BATCH)]
        *read, targets = self.objective.question(texts, self.generator)
        self.n_asked += int((targets != training.NOT_COUNTED).sum())
        logits = self.objective.logits(self.model, *read)
        return training.cross_entropy(logits, targets)

    def step(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = training.lr_at_step(self.n_done, self.rate, 50, self.n_steps)
        self.optimiser.zero_grad()
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.n_done += 1


def flops_a_step(objective: Objective, n_steps: int = 8) -> float:
    """As torch counts them, forwards and backwards, on average."""
    with torch.random.fork_rng():
        course = Course(objective, 99, 0.0, n_steps)
        with FlopCounterMode(display=False) as counter:
            for _ in range(n_steps):
                course.loss().backward()
    return counter.get_total_flops() / n_steps


def n_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@torch.no_grad()
def examined(course: Course, gaps: Gaps, verbs: Gaps) -> dict[str, float]:
    """Nats above the truth at gaps, and how many verbs agree across a noun of the other number."""
    fill = course.objective.fill
    return {
        "lacking": lacking(gaps.exact, fill(course.model, gaps.texts, gaps.places)).mean().item(),
        "agreement": agrees(verbs, fill(course.model, verbs.texts, verbs.places)),
    }


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


# --- Four families at equal compute --------------------------------------------------------------

BUDGET = 1.3e11  # FLOPs of a run: about 600 steps of the causal model
RATES = {"masked": 3e-3, "causal": 3e-3, "spans": 3e-3, "infilling": 3e-3}  # see `rates`
N_LOOKS = 5
KEPT, WEIGHTS = ("masked", 0, 4 * BUDGET), RESULTS.with_name("masked_model.safetensors")


def course_of(name: str, seed: int, budget: float, rate: float | None = None) -> Course:
    """A course that takes this many FLOPs."""
    objective = OBJECTIVES[name]
    n_steps = round(budget / flops_a_step(objective))
    return Course(objective, seed, rate or RATES[name], n_steps)


def followed(
    name: str, seed: int, budget: float, rate: float | None = None
) -> list[dict[str, Any]]:
    """A whole run, with a row for every look; the last one is longer."""
    course, rows, seconds = course_of(name, seed, budget, rate), [], 0.0
    gaps, verbs = any_gap(Random(77), 80), verb_gaps(Random(78), 50)
    for look in range(1, N_LOOKS + 1):
        started = time.process_time()
        while course.n_done < round(course.n_steps * look / N_LOOKS):
            course.step()
        seconds += time.process_time() - started
        row = {"model": name, "seed": seed, "flops": budget * look / N_LOOKS}
        row |= {"steps": course.n_done, "asked": course.n_asked, "seconds": seconds}
        rows.append(rounded(row | examined(course, gaps, verbs)))
    if (name, seed, budget) == KEPT:
        save_file(course.model.state_dict(), WEIGHTS)
    rows[-1] |= rounded({"parameters": n_parameters(course.model), **at_the_end(course)})
    print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def at_the_end(course: Course) -> dict[str, float]:
    """What the model knows about a hidden noun, and how much of what it writes is a sentence."""
    objective, model = course.objective, course.model
    hidden = subject_gaps(Random(79), 100)
    found: dict[str, Any] = {
        "lacking_noun": lacking(
            hidden.exact, objective.fill(model, hidden.texts, hidden.places)
        ).mean()
    }
    if isinstance(objective, Causal):
        left = objective.from_the_left(model, hidden.texts, hidden.places)
        found["lacking_noun_left"] = lacking(hidden.exact, left).mean()
    if isinstance(objective, Masked):
        found |= seen_words(course)
    return {name: float(value) for name, value in found.items()} | written(course)


def families() -> list[dict[str, Any]]:
    """Masked, causal, span corruption, infilling: the same FLOPs, three seeds."""
    names = ("masked", "causal", "spans", "infilling", "causal, 15 %")
    return [row for name in names for seed in SEEDS for row in followed(name, seed, BUDGET)]


def lower_rate() -> list[dict[str, Any]]:
    """Span corruption at half of the rate, which `rates` shows to be better for it."""
    return [row for seed in SEEDS for row in followed("spans", seed, BUDGET, 1.5e-3)]


def longer() -> list[dict[str, Any]]:
    """Those that had not learned to agree, for four times as long. One of them is kept.

    And the masked model that always sees the mask.
    """
    return [
        row
        for name in ("masked", "always the mask", "spans")
        for seed in SEEDS
        for row in followed(name, seed, 4 * BUDGET)
    ]


def rates() -> list[dict[str, Any]]:
    """Each objective with three rates, for half of the budget."""
    rows = []
    gaps, verbs = any_gap(Random(77), 80), verb_gaps(Random(78), 50)
    for name in ("masked", "causal", "spans", "infilling"):
        for rate in (1.5e-3, 3e-3, 6e-3):
            course = course_of(name, 3, BUDGET / 2, rate)
            while course.n_done < course.n_steps:
                course.step()
            row = {"model": name, "rate": rate, **examined(course, gaps, verbs)}
            rows.append(rounded(row))
            print(rows[-1], flush=True)
    return rows


class FewTargets(Causal):
    """The control: a causal model that is asked for 15 % of the words only."""

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        ids, targets = super().question(texts, generator)
        if not torch.is_grad_enabled():  # an examination asks for all
            return ids, targets
        left_out = torch.rand(targets.shape, generator=generator) > 0.15
        return ids, targets.masked_fill(left_out, training.NOT_COUNTED)


class AlwaysMask(Masked):
    """As if BERT hid every word that it asks for."""

    def question(self, texts: Sequence[Text], generator: torch.Generator) -> tuple[Tensor, ...]:
        ids, labels = super().question(texts, generator)
        return ids.masked_fill(labels != training.NOT_COUNTED, MASK), labels


OBJECTIVES |= {"causal, 15 %": FewTargets(), "always the mask": AlwaysMask()}
RATES |= {"causal, 15 %": 3e-3, "always the mask": 3e-3}


@torch.no_grad()
def seen_words(course: Course) -> dict[str, float]:
    """Of words that stand there, how many the model names; and where one word is a wrong one."""
    random = Random(83)
    texts = [sentences.sample(random) for _ in range(200)]
    ids, generator = whole(texts), torch.Generator().manual_seed(83)
    is_word = (ids != START) & (ids != END) & (ids != PAD)
    said = course.objective.logits(course.model, ids)[..., :N_WORDS].argmax(-1)
    at = torch.tensor([random.randrange(len(text)) for text in texts]) + 1
    wrong, rows = ids.clone(), torch.arange(len(ids))
    wrong[rows, at] = torch.randint(2, N_WORDS, (len(ids),), generator=generator)
    log_p = course.objective.logits(course.model, wrong)[rows, at, :N_WORDS].log_softmax(-1)
    true = ids[rows, at]
    changed = wrong[rows, at] != true
    likelier = log_p[rows, true] > log_p[rows, wrong[rows, at]]
    return {
        "named": (said == ids)[is_word].float().mean().item(),
        "wrong_one_found": likelier[changed].float().mean().item(),
    }


# --- Writing -------------------------------------------------------------------------------------

N_WRITTEN = 200


def drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row."""
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)


def continued(logits_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows that begin with <bos>, and are written one token after the other."""
    generator, ids = torch.Generator().manual_seed(0), torch.full((N_WRITTEN, 1), START)
    while ids.shape[1] < CONTEXT:
        ids = torch.cat((ids, drawn(logits_of(ids)[:, -1], generator)), 1)
    return ids


def masked_writing(course: Course, one_by_one: bool) -> Tensor:
    """A masked model fills rows of masks, of lengths that sentences have."""
    random, generator = Random(80), torch.Generator().manual_seed(0)
    ids = whole([sentences.sample(random) for _ in range(N_WRITTEN)])
    is_word = (ids != START) & (ids != END) & (ids != PAD)
    ids = ids.masked_fill(is_word, MASK)
    for place in range(1, ids.shape[1]) if one_by_one else [slice(None)]:
        logits = course.objective.logits(course.model, ids)
        said = drawn(logits[..., :N_WORDS].flatten(0, 1), generator).view_as(ids)
        now = is_word.clone()
        if one_by_one:
            now[:, torch.arange(ids.shape[1]) != place] = False
        ids = said.where(now, ids)
    return ids


def is_sentence(ids: list[int]) -> bool:
    """Whether the words up to the first full stop are a sentence of the grammar."""
    words = [VOCABULARY[index] for index in ids]
    ends = [place for place, word in enumerate(words) if word in (END_WORD, "<1>")]
    told = words[: ends[0]] if ends else words
    known = all(word in sentences.VOCABULARY for word in told)
    return known and sentences.log_probability(told) > -torch.inf


END_WORD = sentences.END


def share_of_sentences(ids: Tensor, first: int = 1) -> float:
    return fmean(is_sentence(row[first:]) for row in ids.tolist())


def written(course: Course) -> dict[str, float]:
    """The share of drawn texts that are sentences, for each way in which the model can write."""
    model, objective = course.model, course.objective
    if isinstance(objective, Masked):
        return {
            "sentences_at_once": share_of_sentences(masked_writing(course, one_by_one=False)),
            "sentences": share_of_sentences(masked_writing(course, one_by_one=True)),
        }
    if isinstance(objective, Causal):
        return {"sentences": share_of_sentences(continued(model))}
    hole = SENTINEL if isinstance(objective, SpanCorruption) else MASK
    source = torch.tensor([[hole, END]]).expand(N_WRITTEN, -1)
    ids = continued(lambda target: objective.logits(model, source, target))
    return {"sentences": share_of_sentences(ids, 2 if hole == SENTINEL else 1)}


# --- Heads ---------------------------------------------------------------------------------------


class AttentionHead(nn.Module):
    """A learned query looks at the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(D_MODEL))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return objectives.attention_pool(x, self.query, keep)


class PooledBy(nn.Module):
    """A way to make one vector of many that has nothing to learn."""

    def __init__(self, pool: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return self.pool(x, keep)


def max_pool(x: Tensor, keep: Tensor) -> Tensor:
    """The largest value of each feature, over the tokens that are kept."""
    return x.masked_fill(~keep[..., None], -torch.inf).amax(1)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "cls": lambda: PooledBy(lambda x, keep: x[:, 0]),
    "mean": lambda: PooledBy(encoder.mean_pool),
    "max": lambda: PooledBy(max_pool),
    "attention": AttentionHead,
}


class Read(nn.Module):
    """An encoder, a pool, and a head."""

    def __init__(self, reader: nn.Module, pool: str, n_classes: int, hidden: bool = False):
        super().__init__()
        self.reader, self.pool = reader, POOLS[pool]()
        self.head: nn.Module = Linear(D_MODEL, n_classes)
        if hidden:
            self.head = nn.Sequential(Linear(D_MODEL, 64), nn.GELU(), Linear(64, n_classes))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.pooled(ids))

    def pooled(self, ids: Tensor) -> Tensor:
        return self.pool(self.reader(ids, encoder.padding_mask(ids, PAD)), ids != PAD)


def masked_reader(seed: int, n_steps: int) -> nn.Module:
    """A copy of the encoder of a masked model, trained for so many steps."""
    return deepcopy(_masked_reader(seed, n_steps))


@cache
def _masked_reader(seed: int, n_steps: int) -> nn.Module:
    course = Course(OBJECTIVES["masked"], seed, RATES["masked"], max(n_steps, 1))
    for _ in range(n_steps):
        course.step()
    return course.model.encoder  # type: ignore[return-value]


def examples(question: str, n: int, seed: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Training and test: ids and labels of each."""
    both = labelled.split(Random(seed), n, 500, question)
    return tuple(
        (whole([list(e.words) for e in part]), torch.tensor([e.label for e in part]))
        for part in both
    )


def fit(model: nn.Module, ids: Tensor, labels: Tensor, rate: float, steps: int, seed: int) -> None:
    """AdamW on batches of 64, for whatever still learns."""
    generator = torch.Generator().manual_seed(seed)
    learns = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learns, rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = training.lr_at_step(step, rate, 10, steps)
        rows = torch.randint(len(ids), (64,), generator=generator)
        optimiser.zero_grad()
        training.cross_entropy(model(ids[rows]), labels[rows]).backward()
        optimiser.step()


@torch.no_grad()
def right(model: nn.Module, ids: Tensor, labels: Tensor) -> float:
    return (model(ids).argmax(-1) == labels).float().mean().item()


HEADS = {
    "cls": ("cls", False),
    "mean": ("mean", False),
    "max": ("max", False),
    "attention": ("attention", False),
    "mean, hidden layer": ("mean", True),
}


def kept_reader() -> nn.Module:
    """The encoder of the masked model that is stored."""
    model: Any = OBJECTIVES["masked"].make()
    model.load_state_dict(load_file(WEIGHTS))
    return model.encoder


def heads() -> list[dict[str, Any]]:
    """Five heads on a frozen encoder: the stored one, or one that never learned; two questions."""
    rows = []
    for seed in SEEDS:
        for kind in ("masked words", "untrained"):
            reader = kept_reader() if kind == "masked words" else masked_reader(seed, 0)
            reader.requires_grad_(False)
            for question in ("state", "number"):
                train, test = examples(question, 1000, seed)
                for name, (pool, hidden) in HEADS.items():
                    torch.manual_seed(seed)
                    model = Read(reader, pool, len(labelled.CLASSES[question]), hidden)
                    fit(model, *train, 1e-2, 200, seed)
                    row = {"encoder": kind, "question": question, "head": name, "seed": seed}
                    rows.append(rounded(row | {"right": right(model, *test)}))
                    print(rows[-1], flush=True)
    return rows


def along() -> list[dict[str, Any]]:
    """The same with an encoder that learns with its head."""
    rows = []
    for seed in SEEDS:
        for question in ("state",):
            train, test = examples(question, 1000, seed)
            for name, (pool, hidden) in HEADS.items():
                torch.manual_seed(seed)
                model = Read(masked_reader(seed, 600), pool, 10, hidden)
                fit(model, *train, 3e-3, 200, seed)
                row = {"question": question, "head": name, "seed": seed}
                rows.append(rounded(row | {"right": right(model, *test)}))
                print(rows[-1], flush=True)
    return rows


# --- Sentence embeddings -------------------------------------------------------------------------

Fact = tuple[str, str]


def fact(text: Text) -> Fact | None:
    """What a sentence says: its first noun and its state; None where it says what is done."""
    is_state = text[verb(text)] in ("is", "are")
    return (text[nouns(text)[0]], text[-1]) if is_state else None


def wordings(random: Random, n: int) -> dict[Fact, list[Text]]:
    """Different sentences, by what they say."""
    found: dict[Fact, list[Text]] = {}
    for text in {tuple(sentences.sample(random)): None for _ in range(n)}:
        if said := fact(list(text)):
            found.setdefault(said, []).append(list(text))
    return dict(sorted(found.items()))


def two_of_each(random: Random, facts: Sequence[Fact], told: dict[Fact, list[Text]]) -> Tensor:
    """Ids of two sentences for each fact: the first of all, then the second of all."""
    pairs = [random.sample(told[one], 2) for one in facts]
    return whole([a for a, _ in pairs] + [b for _, b in pairs])


def positives_only(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Partners are pulled together, and nobody is pushed away."""
    return (1 - F.cosine_similarity(a, b)).mean()


Loss = Callable[..., Tensor]


class Embedder:
    """Learns to give sentences that say the same close vectors. 27 of 108 facts are kept away."""

    def __init__(self, seed: int, reader: nn.Module | None = None):
        torch.manual_seed(seed)
        self.random = Random(seed)
        self.told = wordings(Random(81), 20000)
        facts = list(self.told)
        kept_away = set(Random(82).sample(facts, 27))
        self.known = [one for one in facts if one not in kept_away]
        self.unmet = [one for one in facts if one in kept_away]
        if reader is None:
            reader = masked_reader(seed, 0)
        self.model = Read(reader, "mean", 1)

    def embed(self, ids: Tensor) -> Tensor:
        return F.normalize(self.model.pooled(ids), dim=-1)

    def learn(self, loss: Loss, temperature: float, n_steps: int, size: int = 32) -> None:
        """Batches of `size` different facts, two sentences each."""
        optimiser = torch.optim.AdamW(self.model.parameters(), 3e-3)
        for step in range(n_steps):
            for group in optimiser.param_groups:
                group["lr"] = training.lr_at_step(step, 3e-3, 20, n_steps)
            ids = two_of_each(self.random, self.random.sample(self.known, size), self.told)
            optimiser.zero_grad()
            loss(*self.model.pooled(ids).chunk(2), temperature).backward()
            optimiser.step()

    @torch.no_grad()
    def found(self) -> dict[str, float]:
        """Who of 108 says the same? Of facts that were met, and not; and the mean cosine of others.

        Four draws of sentences.
        """
        facts, draws = [*self.known, *self.unmet], []
        for seed in range(4):
            a, b = self.embed(two_of_each(Random(90 + seed), facts, self.told)).chunk(2)
            cosines = a @ b.T
            hit = (cosines.argmax(1) == torch.arange(len(facts))).float()
            n = len(self.known)
            others = cosines[~torch.eye(len(facts), dtype=torch.bool)].mean()
            draws.append((hit[:n].mean(), hit[n:].mean(), cosines.diag().mean(), others))
        names = ("found", "found_unmet", "cosine_partners", "cosine_others")
        means = torch.tensor(draws).mean(0).tolist()
        return dict(zip(names, means, strict=True))


def embeddings() -> list[dict[str, Any]]:
    """InfoNCE at four temperatures and three batch sizes; positives only; what was not taught."""
    rows = []

    def note(name: str, seed: int, embedder: Embedder, **more: float) -> None:
        rows.append(rounded({"loss": name, "seed": seed, **more, **embedder.found()}))
        print(rows[-1], flush=True)

    for seed in SEEDS:
        note("untrained", seed, Embedder(seed))
        masked = Embedder(seed, masked_reader(seed, 600))
        note("masked words", seed, masked)
        for temperature in (0.02, 0.1, 0.5, 1.0):
            one = Embedder(seed)
            one.learn(objectives.info_nce, temperature, 100)
            note("info_nce", seed, one, temperature=temperature, size=32)
        for size in (2, 8):
            one = Embedder(seed)
            one.learn(objectives.info_nce, 0.1, 100, size)
            note("info_nce", seed, one, temperature=0.1, size=size)
        one = Embedder(seed)
        one.learn(positives_only, 1.0, 100)
        note("positives only", seed, one)
    return rows


# --- Several tasks at once -----------------------------------------------------------------------


class Shared(nn.Module):
    """One encoder, a head for each question, and one for hidden words."""

    def __init__(self, masked: nn.Module):
        super().__init__()
        self.masked = masked
        self.heads = nn.ModuleDict(
            {
                question: Read(masked.encoder, "mean", len(names))  # type: ignore[arg-type]
                for question, names in labelled.CLASSES.items()
            }
        )


TASKS = {
    "number": ("number",),
    "state": ("state",),
    "both": ("number", "state"),
    "number and words": ("number", "masked"),
    "state and words": ("state", "masked"),
}


def several(tasks: Sequence[str], n: int, seed: int, n_before: int = 0) -> dict[str, float]:
    """200 steps; in each a batch of every task, losses summed. What is right of each."""
    masked = Course(OBJECTIVES["masked"], seed, RATES["masked"], max(1, n_before))
    for _ in range(n_before):
        masked.step()
    shared = Shared(masked.model)  # the first weights are those of the seed, whatever the tasks
    optimiser = torch.optim.AdamW(shared.parameters(), 3e-3)
    questions = [task for task in tasks if task != "masked"]
    data = {question: examples(question, n, 100 + seed) for question in questions}
    generator = torch.Generator().manual_seed(seed)
    for step in range(200):
        for group in optimiser.param_groups:
            group["lr"] = training.lr_at_step(step, 3e-3, 20, 200)
        losses = [masked.loss()] if "masked" in tasks else []
        for question in questions:
            ids, labels = data[question][0]
            rows = torch.randint(len(ids), (32,), generator=generator)
            losses.append(training.cross_entropy(shared.heads[question](ids[rows]), labels[rows]))
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    return {one: right(shared.heads[one], *data[one][1]) for one in questions}


def tasks(seeds: Sequence[int] = range(6)) -> list[dict[str, Any]]:
    """Each question alone, both, each with hidden words, each after hidden words: 50 labels."""
    rows = []
    for seed in seeds:
        for name, of in (
            *TASKS.items(),
            ("words before", ("number",)),
            ("words before", ("state",)),
        ):
            n_before = 300 if name == "words before" else 0
            for question, share in several(of, 50, seed, n_before).items():
                row = {"tasks": name, "seed": seed, "question": question, "right": share}
                rows.append(rounded(row))
                print(rows[-1], flush=True)
    return rows


EXPERIMENTS = {
    "rates": rates,
    "families": families,
    "lower_rate": lower_rate,
    "longer": longer,
    "heads": heads,
    "along": along,
    "embeddings": embeddings,
    "tasks": tasks,
}

if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
