"""All numbers of a run: presets by name, and what another corpus needs."""

from dataclasses import dataclass, replace
from typing import Any

from course_utils.runs import sources


@dataclass(frozen=True, kw_only=True)
class Preset:
    """All numbers of a run. Two runs with equal ones, on one machine, end with equal weights."""

    parts: str = "modern"  # of the model: "modern" as in `modern.py`, "gpt2" as in `decoder.py`
    tied: bool = True  # GPT-2's parts only: the head has the weights of the embedding
    d_model: int
    n_layers: int
    n_heads: int
    block: int  # tokens in a row
    batch: int  # rows at once
    accumulation: int = 1  # so many times in every step
    steps: int
    n_buckets: int = 0  # rows of the table of n-grams; 0 for none
    longest: int = 3  # n-gram
    drop: float = 0.0  # share of the n-grams that are not found, in training
    muon_lr: float = 0.02  # for the matrices of modern blocks
    adamw_lr: float = 8e-3  # for everything else
    weight_decay: float = 0.0
    warmup: float = 0.02  # share of the steps
    floor: float = 0.0  # learning rate at the end, as a share of its peak
    evaluate_every: int = 100
    save_every: int = 100
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = "d_model n_layers n_heads block batch accumulation steps"
        for name in [*at_least_one.split(), "evaluate_every", "save_every"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads = {self.n_heads}")
        if self.parts not in ("modern", "gpt2"):
            raise ValueError(f'parts must be "modern" or "gpt2", got {self.parts!r}')

    @property
    def tokens_a_step(self) -> int:
        """How many tokens the model learns from before its weights change."""
        return self.batch * self.block * self.accumulation


PRESETS = {
    # Seconds on one core of a laptop. A small model that makes more steps learns more, and few long
    # rows tell more than many short ones. With thousands of steps on a small text, let `drop` be
    # 0.65: the table would learn the text by heart.
    "tiny": Preset(
        d_model=64, n_layers=2, n_heads=2, block=256, batch=3, steps=440, n_buckets=32768,
        longest=5, adamw_lr=1.6e-2, weight_decay=0.1,
    ),
    # Minutes. The larger a model, the smaller the steps that it can stand.
    "small": Preset(
        d_model=128, n_layers=4, n_heads=4, block=128, batch=12, steps=2000, n_buckets=8192,
        adamw_lr=6e-3,
    ),
    # GPT-2's parts, so small that a processor can train them: the sizes that nanoGPT takes there.
    "nano": Preset(
        parts="gpt2", tied=False, d_model=128, n_layers=4, n_heads=4, block=64, batch=12,
        steps=2000, adamw_lr=1e-3, weight_decay=0.1, warmup=0.05, floor=0.1,
    ),
    # The smallest GPT-2 (Radford et al. 2019), with 10 thousand million tokens: hours on a big GPU.
    # The numbers that its paper does not give are those of GPT-3 (Brown et al. 2020, table 2.1 and
    # appendix B) of the same size: half a million tokens a step, 6e-4 falling to a tenth, decay.
    "gpt2": Preset(
        parts="gpt2", d_model=768, n_layers=12, n_heads=12, block=1024, batch=16, accumulation=32,
        steps=20_000, adamw_lr=6e-4, weight_decay=0.1, floor=0.1, bfloat16=True,
        evaluate_every=250,
    ),
}  # fmt: skip

# What another corpus needs. A row of stories must hold a whole one, or nothing in it can be asked
# for. A story tells a fact in four words that follow each other, so n-grams of four hold facts. The
# tenth of a text that is kept is long: to measure on it takes as long as dozens of steps.
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("tiny", "text"): {"evaluate_every": 1000},
    ("tiny", "stories"): {
        "n_heads": 4, "block": 128, "batch": 16, "steps": 960, "n_buckets": 8192, "longest": 4,
        "adamw_lr": 2.4e-2, "weight_decay": 0.0,
    },
    ("small", "stories"): {"longest": 4},
    ("nano", "stories"): {"block": 128},
    # The same for what is said in the village, whose texts are longer.
    ("tiny", "village"): {
        "n_heads": 4, "block": 149, "batch": 12, "steps": 400, "n_buckets": 0, "adamw_lr": 8e-3,
        "weight_decay": 0.0,
    },
    ("small", "village"): {"block": 149, "n_buckets": 0},
    ("nano", "village"): {"block": 149},
}  # fmt: skip


def preset(name: str, corpus: sources.Corpus, **changes: Any) -> Preset:
    """A preset as it suits a corpus, with changes of your own: `preset("tiny", corpus, steps=9)`.

    Raises ValueError where there is no such preset, or where a number makes no sense.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    suited = replace(PRESETS[name], **CHANGES.get((name, corpus.name), {}))
    if (name, corpus.name) == ("tiny", "text"):
        suited = replace(suited, steps=_steps(suited.steps, len(corpus.counted())))
    return replace(suited, **changes)


def _steps(steps: int, n_tokens: int) -> int:
    """More of them for a text of more than a million tokens.

    What counting n-grams gains from a longer text, the model must gain by learning for longer. The
    square root is a rule of thumb; `benchmarks/texts.py` shows on which texts it was tried.
    """
    return round(steps * max(1.0, n_tokens / 1_000_000) ** 0.5)


def fitting(corpus: sources.Corpus) -> list[str]:
    """The presets whose rows are not longer than the corpus."""
    return [name for name in PRESETS if fits(preset(name, corpus), corpus)]


def fits(preset: Preset, corpus: sources.Corpus) -> bool:
    """Whether a row of the preset can be cut from the corpus."""
    try:
        corpus.batch(preset.seed, 0, 1, preset.block)
    except ValueError:
        return False
    return True
