"""Train the GPT that tells stories, measure it, and write it beside this script.

`README.md` in this folder has the command, and what it printed.
"""

import hashlib
import json
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from course_utils import attention, decoder, modern, training
from course_utils.corpora import stories
from course_utils.runs import kernels, loop, optimisers

FOLDER = Path(__file__).parent
CONFIG = {
    "vocabulary": len(stories.VOCABULARY),
    "d_model": 64,
    "n_heads": 2,
    "n_layers": 2,
    "n_buckets": 8192,
    "longest": 4,  # four words in a row can hold a fact: "ball in a box"
}
SEED = 0
SCHEDULE = loop.Schedule(steps=2400, warmup=48, evaluate_every=150, seed=SEED)
ROWS, TOKENS = 16, stories.LONGEST + 1  # a whole story behind <bos>; <end> is only predicted
N_STORIES, N_SAMPLES = 300, 200
N_WATCHED = 60  # stories that are told, and others that are asked, while training goes on

# --- Training ------------------------------------------------------------------------------------


def batches(step: int) -> list[training.Batch]:
    """The rows of a step. That a row goes on with another story is not asked for."""
    rows = stories.batch(SEED, step, ROWS, TOKENS + 1)
    inputs, targets = decoder.shift_targets(rows)
    start = stories.VOCABULARY.index(stories.START)
    return [(inputs, targets.masked_fill(targets == start, -100))]


def new_model() -> decoder.GPT:
    """A GPT of the newer parts, before training."""
    torch.manual_seed(SEED)
    return modern.modern_gpt(**CONFIG)


# --- Measuring -----------------------------------------------------------------------------------


def logits(model: decoder.GPT, words: list[str]) -> Float[Tensor, "tokens vocabulary"]:
    """What the model expects after <bos> and after every word."""
    return model(stories.encode([stories.START, *words])[None])[0]


def loss(model: decoder.GPT, texts: list[list[str]]) -> float:
    """Nats a token, over all words and <end>."""
    total, n_tokens = 0.0, 0
    for words in texts:
        targets = stories.encode([*words, stories.END])
        total += float(training.cross_entropy(logits(model, words), targets)) * len(targets)
        n_tokens += len(targets)
    return total / n_tokens


def answered(model: decoder.GPT, texts: list[list[str]]) -> dict[str, float]:
    """Share of questions whose answer is the word that the model finds most probable.

    "first" are those that are the first of their kind in a story. The second one could be guessed
    from the answer to the first.
    """
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for words in texts:
        expected = logits(model, words).argmax(-1)
        kinds = set()
        for question in stories.questions(words):
            said = stories.VOCABULARY[expected[len(question.words)]]
            names = [question.kind]
            if question.kind not in kinds:
                names.append(f"{question.kind}, first")
            kinds.add(question.kind)
            for name in names:
                asked[name] += 1
                right[name] += said == question.answer
    return {name: right[name] / asked[name] for name in sorted(asked)}


def looks(model: decoder.GPT, texts: list[list[str]], kind: str) -> Float[Tensor, "layers heads 2"]:
    """Share of questions where a head looks most at the word that told the answer.

    And the share where it looks most at that word or one of its two neighbours. The head looks
    from the word before the answer.
    """
    hits = torch.zeros(CONFIG["n_layers"], CONFIG["n_heads"], 2)
    n_questions = 0
    for words in texts:
        with attention.record() as maps:
            logits(model, words)
        weights = torch.stack([each[0] for each in maps.values()])  # layers heads query key
        for question in stories.questions(words):
            if question.kind == kind:
                strongest = weights[:, :, len(question.words)].argmax(-1)
                away = (strongest - 1 - question.source).abs()  # <bos> is token 0
                hits += torch.stack([away == 0, away <= 1], dim=-1)
                n_questions += 1
    return hits / n_questions


def tell(model: decoder.GPT, n_stories: int) -> list[list[str]]:
    """Draw stories at temperature 1."""
    ids = torch.full((n_stories, 1), stories.VOCABULARY.index(stories.START))
    end = stories.VOCABULARY.index(stories.END)
    generator = torch.Generator().manual_seed(SEED)
    while ids.shape[1] <= stories.LONGEST + 10 and not (ids == end).any(1).all():
        probabilities = model(ids)[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    texts = [stories.decode(row)[1:] for row in ids]
    return [text[: text.index(stories.END)] if stories.END in text else text for text in texts]


@torch.no_grad()
def report(model: decoder.GPT) -> None:
    """Print how close the model is to the floor, what it knows, and which head sees to it."""
    texts = stories.validation(N_STORIES)
    found, floor = loss(model, texts), stories.floor(texts)
    print(f"on {N_STORIES} stories of the validation set, in nats a token:")
    print(f"loss  {found:.4f}, {found / floor.per_token - 1:.1%} above the floor")
    print(f"floor {floor.per_token:.4f}")
    print("questions answered right:")
    for name, share in answered(model, texts).items():
        print(f"  {name:15} {share:6.1%}")
    print("a head's strongest weight is on what told the answer (or on a neighbour of it):")
    for kind in ("place", "colour"):
        for layer, heads in enumerate(looks(model, texts, kind).tolist()):
            for head, (on, near) in enumerate(heads):
                print(f"  {kind:6} {layer}.{head} {on:6.1%} {near:6.1%}")
    report_samples(tell(model, N_SAMPLES))


@torch.no_grad()
def watch(watched: list[dict[str, float]], model: decoder.GPT) -> float:
    """Note what the model can do so far, and return its loss on the validation set."""
    model.eval()
    texts = stories.validation(N_WATCHED)
    readings = [stories.read(words) for words in tell(model, N_WATCHED)]
    grammatical = sum(reading.n_grammatical for reading in readings)
    found = loss(model, texts)
    watched.append(
        {
            "step": (len(watched) + 1) * SCHEDULE.evaluate_every,
            "loss": found,
            "floor": stories.floor(texts).per_token,
            **answered(model, texts),
            "grammatical": grammatical / sum(reading.n_sentences for reading in readings),
            "consistent": sum(reading.consistent for reading in readings) / N_WATCHED,
        }
    )
    model.train()
    return found


def report_samples(texts: list[list[str]]) -> None:
    """Print what the grammar says about stories that the model told."""
    readings = [stories.read(words) for words in texts]
    n_sentences = sum(reading.n_sentences for reading in readings)
    grammatical = sum(reading.n_grammatical for reading in readings) / n_sentences
    print(f"of {len(texts)} stories that it told, {grammatical:.1%} of sentences are grammatical")
    print(f"  complete stories       {sum(each.complete for each in readings) / len(texts):6.1%}")
    print(f"  and all facts kept     {sum(each.consistent for each in readings) / len(texts):6.1%}")
    facts = [fact for reading in readings for fact in reading.facts]
    for kind in sorted({kind for kind, _ in facts}):
        kept = [each for found, each in facts if found == kind]
        print(f"  {kind:15} {sum(kept) / len(kept):6.1%} of {len(kept)}")
    print(stories.text(texts[0]))


def main() -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)  # the order of a sum, and so its last digits, depends on the threads
    model = new_model()
    watched: list[dict[str, float]] = []
    started = time.process_time()
    with kernels.fused():
        loop.train(
            model, optimisers.muon_and_adamw(model), batches, SCHEDULE, partial(watch, watched)
        )
    seconds = time.process_time() - started
    print(f"{SCHEDULE.steps} steps in {seconds:.0f} s of processor time, watching included")
    report(model.eval())
    (FOLDER / "stories_run.json").write_text(json.dumps(watched, indent=1) + "\n", encoding="utf-8")
    weights = FOLDER / "stories_model.safetensors"
    save_file(model.state_dict(), weights)
    (FOLDER / "stories_model.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{weights.name}: sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
