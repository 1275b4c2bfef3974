"""Train the GPT that talks like the village, measure it, and write it beside this script.

`README.md` in this folder has the command, and what it printed.
"""

import hashlib
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from course_utils import decoder, modern, training
from course_utils.corpora import village
from course_utils.runs import kernels, loop, optimisers

FOLDER = Path(__file__).parent
CONFIG = {"vocabulary": len(village.VOCABULARY), "d_model": 64, "n_heads": 4, "n_layers": 2}
SEED = 0
STEPS, ROWS, TOKENS = 400, 16, 112
N_TEXTS, N_SAMPLES = 200, 100


def batches(seed: int, step: int) -> list[training.Batch]:
    """The rows of a step. That a row goes on with another text is not asked for."""
    inputs, targets = decoder.shift_targets(village.batch(seed, step, ROWS, TOKENS + 1))
    start = village.VOCABULARY.index(village.START)
    return [(inputs, targets.masked_fill(targets == start, training.NOT_COUNTED))]


def train(seed: int) -> decoder.GPT:
    """A GPT of the newer parts."""
    torch.manual_seed(seed)
    model = modern.modern_gpt(**CONFIG)
    schedule = loop.Schedule(steps=STEPS, warmup=STEPS // 50, seed=seed)
    with kernels.fused():
        changes = optimisers.muon_and_adamw(model)
        loop.train(model, changes, lambda step: batches(seed, step), schedule)
    return model.eval()


@torch.no_grad()
def loss(model: decoder.GPT, texts: list[list[str]]) -> float:
    """Nats a token, over all words and <end>."""
    total, n_tokens = 0.0, 0
    for words in texts:
        targets = village.encode([*words, village.END])
        logits = model(village.encode([village.START, *words])[None])[0]
        total += float(training.cross_entropy(logits, targets)) * len(targets)
        n_tokens += len(targets)
    return total / n_tokens


@torch.no_grad()
def talk(model: decoder.GPT, n_texts: int, n_words: int) -> list[list[str]]:
    """Draw the beginnings of texts at temperature 1."""
    ids = torch.full((n_texts, 1), village.VOCABULARY.index(village.START))
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(n_words):
        probabilities = model(ids)[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return [village.decode(row)[1:] for row in ids]


def main() -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)  # the order of a sum, and so its last digits, depends on the threads
    started = time.process_time()
    model = train(SEED)
    print(f"{STEPS} steps in {time.process_time() - started:.0f} s of processor time")
    texts = village.validation(N_TEXTS)
    found, floor = loss(model, texts), village.floor(texts).per_token
    print(f"on {N_TEXTS} texts of the validation set, in nats a token:")
    print(f"loss  {found:.4f}, {found / floor - 1:.1%} above the floor")
    print(f"floor {floor:.4f}")
    talks = talk(model, N_SAMPLES, village.SHORTEST)
    sentences = [broken for words in talks for broken in village.broken(words)]
    print(f"of {len(sentences)} sentences that it says, {sum(sentences) / len(sentences):.1%} have")
    print("a word that the village cannot say there. One text:")
    print(village.text(talks[0]))
    weights = FOLDER / "village_model.safetensors"
    save_file(model.state_dict(), weights)
    (FOLDER / "village_model.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{weights.name}: sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
