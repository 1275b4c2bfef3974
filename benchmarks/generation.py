"""Tokens a second: our cache beside Hugging Face's, and what a draft that guesses ahead adds.

    python benchmarks/generation.py [runs]

One text, 250 new tokens, on one thread, by a GPT of 4 layers, d 128, 4 heads and a context of 256.
Ours and Hugging Face's have the same weights. In the first table they are random, and all ways must
write the same tokens. In the second they have learned Python's own documentation for some minutes,
as has a smaller model of 1 layer, d 32, that guesses. They draw at temperature 1, and before that
all ways must write the same greedy text. In the third the story-teller that comes with the course
draws: n-grams guess well what it says.

The ways take turns, so that a busy machine disturbs all of them; what counts is processor time. The
ratios are medians of the ratios of single rounds, with the least and the greatest.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pydoc_data import topics

import torch
import transformers
from torch import Tensor, nn

from course_utils import decoder, inference, modern, sampling, training
from course_utils.corpora import text
from course_utils.families import renaming
from course_utils.runs import baselines, kernels, optimisers, quick, writing

LAYERS, D_MODEL, HEADS, CONTEXT, VOCABULARY = 4, 128, 4, 256, 256
N_NEW, PROMPT = 250, 6
STEPS, ROWS = 1200, 3  # of training
ROOM = 32  # behind the context: Hugging Face guesses beyond the end

Way = Callable[[Tensor], Tensor]
Ways = dict[str, Way]


def main() -> None:
    """Measure all ways in turn and print the tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    prompt = torch.randint(VOCABULARY, (1, PROMPT))
    with torch.inference_mode():
        ways = all_ways()
        check({name: way(prompt) for name, way in ways.items()})
        print(table(measured(ways, prompt, runs)))

    ids = torch.tensor(list("\n\n".join(topics.topics.values()).encode("latin-1", "replace")))
    seen, prompt = ids[: len(ids) * 9 // 10], ids[None, -PROMPT:]
    theirs, small = trained(gpt2(), seen), trained(gpt2(1, 32, 2), seen)
    with torch.inference_mode():
        greedy = with_drafts(
            theirs, small, seen, [partial(sampling.apply_temperature, temperature=0)]
        )
        check({name: way(prompt) for name, way in greedy.items()})
        print(table(measured(with_drafts(theirs, small, seen, []), prompt, runs)))
        story, prompt = story_ways()
        print(table(measured(story, prompt, runs)))


def measured(ways: Ways, prompt: Tensor, runs: int) -> dict[str, list[float]]:
    """Processor seconds of every run."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            with kernels.fused() if "fused" in name else nullcontext():
                start = time.process_time()
                way(prompt)
                seconds[name].append(time.process_time() - start)
    return seconds


def all_ways() -> Ways:
    """The ways to go on, by what they are called in the table. The first is the one to compare."""
    theirs = gpt2()
    for weight in theirs.parameters():  # large enough to say something
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
    ours = ours_of(theirs)
    newer = modern.modern_gpt(VOCABULARY, D_MODEL, HEADS, LAYERS).eval()
    for weight in newer.parameters():
        nn.init.normal_(weight, std=0.1)
    cached, newer_cached = (sampling.CachedModel(model, CONTEXT) for model in (ours, newer))
    return {
        "ours, cache, quick step, fused kernels": partial(write, quick.cached(ours, CONTEXT)),
        "ours, cache, fused kernels": partial(write, cached),
        "ours, cache, explicit parts": partial(write, cached),
        "ours, no cache, fused kernels": partial(write, ours),
        "ours, no cache, explicit parts": partial(write, ours),
        "Hugging Face, cache": partial(write_theirs, theirs),
        "Hugging Face, no cache": partial(write_theirs, theirs, use_cache=False),
        "modern block, cache, quick step, fused kernels": partial(
            write, quick.cached(newer, CONTEXT)
        ),
        "modern block, cache, fused kernels": partial(write, newer_cached),
        "modern block, no cache, fused kernels": partial(write, newer),
    }


def with_drafts(
    theirs: nn.Module, small: nn.Module, seen: Tensor, filters: Sequence[sampling.Filter]
) -> Ways:
    """The ways to go on with a draft and without one. Without filters they draw."""
    counted = baselines.NGram(seen[: writing.N_COUNTED_TOKENS], 4, VOCABULARY)
    table_draft = inference.TableDraft(counted.probabilities, counted.order - 1)
    model, draft = (quick.cached(ours_of(each), CONTEXT) for each in (theirs, small))
    draw = {"do_sample": not filters}
    return {
        "ours, quick step, fused kernels": partial(write, model, choose=sampling.sampler(*filters)),
        "ours, quick step, n-grams guess, fused kernels": partial(
            speculate, model, table_draft, filters
        ),
        "ours, quick step, a smaller model guesses, fused kernels": partial(
            speculate, model, draft, filters
        ),
        "Hugging Face, cache": partial(write_theirs, theirs, **draw),
        "Hugging Face, a smaller model guesses": partial(
            write_theirs, theirs, assistant_model=small, **draw
        ),
        "Hugging Face, the prompt's own n-grams guess": partial(
            write_theirs, theirs, prompt_lookup_num_tokens=writing.AHEAD, **draw
        ),
    }


def story_ways() -> tuple[Ways, Tensor]:
    """The ways of the model that the course ships, and a beginning. They draw."""
    model, corpus = writing.shipped()
    cached, draw = quick.cached(model, CONTEXT), sampling.sampler()
    plain = sampling.CachedModel(model, CONTEXT)
    ways = {
        "story-teller, quick step, fused kernels": partial(write, cached, choose=draw),
        "story-teller, quick step, n-grams guess, fused kernels": partial(
            speculate, cached, writing.table(corpus), []
        ),
        "story-teller, fused kernels": partial(write, plain, choose=draw),
    }
    return ways, corpus.encode("Mia")[None]


def gpt2(n_layers: int = LAYERS, d_model: int = D_MODEL, n_heads: int = HEADS) -> nn.Module:
    """Their GPT-2 with the activation of ours."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT + ROOM,
        n_embd=d_model,
        n_layer=n_layers,
        n_head=n_heads,
        activation_function="gelu",
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def ours_of(theirs: nn.Module) -> decoder.GPT:
    """Our GPT with their weights."""
    config = theirs.config
    shape = config.n_embd, config.n_head, config.n_layer, config.n_positions
    ours = decoder.gpt(VOCABULARY, *shape).eval()
    renaming.fill(ours, theirs.state_dict(), renaming.GPT2)
    return ours


def trained(model: nn.Module, ids: Tensor) -> nn.Module:
    """The model when it has learned to go on with a text."""
    hidden = [each for each in model.transformer.h.parameters() if each.ndim > 1]
    others = set(model.parameters()) - set(hidden)
    changes = (
        optimisers.Muon(hidden, 0.02, iterations=4),
        optimisers.AdamW(others, 5e-3, betas=(0.9, 0.99)),
    )
    fall = [torch.optim.lr_scheduler.LinearLR(each, 1, 0, STEPS) for each in changes]
    for step in range(STEPS):
        inputs, targets = decoder.shift_targets(text.crops(ids, 0, step, ROWS, CONTEXT + 1))
        loss = training.cross_entropy(model(inputs).logits, targets)
        model.zero_grad()
        loss.backward()
        for each in (*changes, *fall):
            each.step()
    print(f"{len(model.transformer.h)} layers, trained to {loss.item():.2f} nats a token\n")
    return model


def write(
    model: Callable[[Tensor], Tensor], prompt: Tensor, choose: sampling.Sampler = sampling.greedy
) -> Tensor:
    """A text by ours."""
    return sampling.generate(model, prompt, N_NEW, choose)


def speculate(
    model: inference.Reader,
    draft: inference.Reader,
    filters: Sequence[sampling.Filter],
    prompt: Tensor,
) -> Tensor:
    """A text by ours, of which a draft guesses what it can."""
    return inference.speculate(model, draft, prompt, N_NEW, writing.AHEAD, filters)


def write_theirs(model: nn.Module, prompt: Tensor, **settings: object) -> Tensor:
    """A text by Hugging Face's, without chance if nothing else is said."""
    settings = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0, **settings}
    if settings["do_sample"]:
        settings["top_k"] = 0
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)


def check(written: dict[str, Tensor]) -> None:
    """All texts of the same weights must be the same."""
    for kind in (True, False):
        same = {name: ids for name, ids in written.items() if name.startswith("modern") is kind}
        for name, ids in same.items():
            first = next(iter(same))
            if not torch.equal(ids, same[first]):
                raise SystemExit(f"{name}: another text than {first}")
        if same:
            n_different = written[first].unique().numel()
            print(f"{len(same)} ways, one text, {n_different} different tokens\n")


def table(seconds: dict[str, list[float]]) -> str:
    """Markdown: tokens a second, and how many times as fast the first way is (least to most)."""
    first = next(iter(seconds.values()))
    lines = [
        f"{N_NEW} tokens, median of {len(first)}",
        "",
        "| way | tokens a second | the first is |",
        "| --- | --- | --- |",
    ]
    for name, each in seconds.items():
        speed = N_NEW / statistics.median(each)
        ratios = [one / ours for one, ours in zip(each, first, strict=True)]
        least, most = min(ratios), max(ratios)
        ratio = f"{statistics.median(ratios):.1f}x ({least:.1f}–{most:.1f})"
        lines.append(f"| {name} | {speed:.0f} | {ratio} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
