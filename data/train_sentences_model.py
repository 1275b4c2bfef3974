"""Train the small GPT that notebook 00 looks into, measure it, and write it beside this script.

`README.md` in this folder has the command, and what it printed.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from course_utils import attention
from course_utils.corpora import sentences
from course_utils.decoder import GPT, gpt

FOLDER = Path(__file__).parent
CONFIG = {
    "vocabulary": len(sentences.VOCABULARY),
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 2,
    "context": sentences.ROW_LENGTH - 1,  # the last token of a row is only predicted
}
SEED, HELD_OUT_SEED = 0, 12345
STEPS, WARM_UP, SENTENCES_A_STEP, LEARNING_RATE = 1000, 50, 64, 3e-3

# --- Training ------------------------------------------------------------------------------------


def new_model() -> GPT:
    """A GPT that starts from small weights (0.02, as in GPT-2)."""
    torch.manual_seed(SEED)
    model = gpt(**CONFIG)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return model


def loss_per_sentence(model: GPT, rows: Int[Tensor, "sentences tokens"]) -> Float[Tensor, ""]:
    """Nats that the model needs for a sentence, on average."""
    logits = model(rows[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
    return losses / len(rows)


def train(model: GPT, steps: int = STEPS) -> None:
    """AdamW; the learning rate rises for `WARM_UP` steps and then falls to 0 along a line."""
    random = Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    for step in range(steps):
        share = min((step + 1) / WARM_UP, (steps - step) / steps)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
        loss = loss_per_sentence(model, sentences.batch(random, SENTENCES_A_STEP))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()


# --- Measuring -----------------------------------------------------------------------------------

NUMBER_OF_NOUN = {noun: number for number in ("ONE", "MANY") for noun in sentences.GRAMMAR[number]}
VERBS = [
    *sentences.next_words(["the", "car", "near", "the", "dog"]),
    *sentences.next_words(["the", "cars", "near", "the", "dog"]),
]


class Distracted(NamedTuple):
    """The beginning of a sentence, up to its verb, with a noun of the other number in between."""

    words: list[str]
    subject: int
    distractor: int


def distracted(drawn: Iterable[list[str]]) -> list[Distracted]:
    """The beginnings of those sentences whose second noun is of another number than the first."""
    found = []
    for words in drawn:
        nouns = [place for place, word in enumerate(words) if word in NUMBER_OF_NOUN]
        if len({NUMBER_OF_NOUN[words[place]] for place in nouns}) == 2:
            found.append(Distracted(words[: nouns[1] + 1], *nouns))
    return found


def agreement(model: GPT, cases: list[Distracted]) -> float:
    """How often the most probable of all verbs is one that agrees with the subject."""
    right = 0
    for case in cases:
        ids = sentences.encode([sentences.START, *case.words])
        scores = model(ids[None])[0, -1, sentences.encode(VERBS)]
        right += VERBS[int(scores.argmax())] in sentences.next_words(case.words)
    return right / len(cases)


def looks(model: GPT, cases: list[Distracted]) -> Float[Tensor, "layers heads 2"]:
    """Mean weight on the subject and on the other noun, where the model must name the verb."""
    total = torch.zeros(CONFIG["n_layers"], CONFIG["n_heads"], 2)
    for case in cases:
        ids = sentences.encode([sentences.START, *case.words])
        with attention.record() as maps:
            model(ids[None])
        last_row = torch.stack([weights[0, :, -1] for weights in maps.values()])
        total += last_row[..., [1 + case.subject, 1 + case.distractor]]  # <bos> is token 0
    return total / len(cases)


def without_head(model: GPT, layer: int, head: int) -> GPT:
    """A copy of the model to which one head adds nothing."""
    copy = deepcopy(model)
    d_head = CONFIG["d_model"] // CONFIG["n_heads"]
    columns = slice(head * d_head, (head + 1) * d_head)
    copy.get_parameter(f"blocks.{layer}.attention.w_o.weight").data[:, columns] = 0
    return copy


@torch.no_grad()
def report(model: GPT) -> None:
    """Print how close the model is to the floor, whether verbs agree, and which head sees to it."""
    random = Random(HELD_OUT_SEED)
    rows = sentences.batch(random, 4000)
    tokens = 1 + float((rows[:, 1:] != sentences.encode([sentences.END])).sum()) / len(rows)
    print(f"on {len(rows)} fresh sentences, in nats a sentence (and a token):")
    for name, nats in [("loss", float(loss_per_sentence(model, rows))), ("floor", floor(rows))]:
        print(f"{name:5} {nats:.3f} ({nats / tokens:.4f})")
    print(f"entropy of the whole grammar: {sentences.entropy():.3f} nats a sentence")
    cases = distracted(sentences.sample(random) for _ in range(1500))
    print(f"agreement past a noun of the other number: {agreement(model, cases):.1%}", end=" ")
    print(f"of {len(cases)} sentences")
    print("head   on the subject   on the other noun   agreement without the head")
    for layer, heads in enumerate(looks(model, cases).tolist()):
        for head, (subject, distractor) in enumerate(heads):
            rest = agreement(without_head(model, layer, head), cases)
            print(f"{layer}.{head} {subject:15.2f} {distractor:19.2f} {rest:23.1%}")


def floor(rows: Int[Tensor, "sentences tokens"]) -> float:
    """What these very sentences cost a model that knows the grammar, in nats a sentence."""
    texts = [sentences.decode(row[1:]) for row in rows]
    exact = [sentences.log_probability(words[: words.index(sentences.END)]) for words in texts]
    return -sum(exact) / len(exact)


def main() -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)  # the order of a sum, and so its last digits, depends on the threads
    model = new_model()
    started = time.perf_counter()
    train(model)
    print(f"{STEPS} steps in {time.perf_counter() - started:.0f} s")
    report(model.eval())
    weights = FOLDER / "sentences_model.safetensors"
    save_file(model.state_dict(), weights)
    (FOLDER / "sentences_model.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{weights.name}: sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
