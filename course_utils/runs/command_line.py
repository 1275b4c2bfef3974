"""`python -m course_utils train`, `sample`, `search`: their arguments, and what they print."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import torch

from course_utils import decoder, inference, sampling
from course_utils.families import search as notes
from course_utils.families import sentence_encoder
from course_utils.runs import (
    building,
    checkpoints,
    folders,
    kernels,
    presets,
    processes,
    quick,
    recipes,
    seeds,
    sources,
    tokens,
    typed,
    writing,
)

SHOWN = 160  # characters of a passage that was found
STORY_CONTEXT = 256  # of the model that the course ships; no story is as long


class WrongInput(Exception):
    """What was typed cannot be used. The text says which argument, and why."""


@contextmanager
def _input() -> Iterator[None]:
    """Errors in here are about what was typed, not about the course or a learner's part."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise WrongInput(str(error)) from None


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """A disk that is full, or a folder in which nobody may write: say what helps."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        first = "Make room there, or give" if "No space left" in reason else "Give"
        rest = (
            "" if checkpoints.newest(folder) is None else ". The newest checkpoint is still whole"
        )
        raise WrongInput(
            f"out: nothing can be written to {folder} ({reason}). {first} another folder (--out, or"
            f" the variable COURSE_UTILS_RUNS){rest}"
        ) from None


def _number(
    kind: type, least: float, most: float = float("inf"), above: bool = False
) -> Callable[[str], float]:
    """A reader for argparse: a number of a kind from `least` (or `above` it) to `most`."""

    def read(typed: str) -> float:
        words = "a whole number" if kind is int else "a number"
        border = f"above {least}" if above else f"from {least}"
        end = "" if most == float("inf") else f" to {most}"
        try:
            number = kind(typed)
            good = least <= number <= most and not (above and number == least)
        except ValueError:
            good = False
        if not good:
            raise argparse.ArgumentTypeError(f"must be {words} {border}{end}, got {typed!r}")
        return number

    return read


# --- train ---------------------------------------------------------------------------------------


def add_train(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train`."""
    count = _number(int, 1)
    names = ", ".join(sources.TOLD)
    parser.add_argument("--corpus", default="stories", help=f"{names}, or the path of a text file")
    parser.add_argument(
        "--tokenizer", help=f"of a text file: {', '.join(tokens.NAMES)}; without it, characters"
    )
    parser.add_argument(
        "--vocabulary",
        type=count,
        help=f"tokens at most, with {' or '.join(tokens.TRAINED)}; without it, {tokens.VOCABULARY}",
    )
    parser.add_argument("--preset", default="tiny", help=", ".join(presets.PRESETS))
    parser.add_argument("--steps", type=count, help="how many, instead of the preset's")
    parser.add_argument("--seed", type=_number(int, 0), help="of everything that is drawn")
    parser.add_argument("--out", type=Path, help="the folder of the run, new or to go on with")
    parser.add_argument(
        "--accumulate", type=count, dest="accumulation", help="so many batches in every step"
    )
    parser.add_argument(
        "--save-every", type=count, help="steps between two checkpoints, instead of the preset's"
    )
    parser.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="multiply in 16 bits: quicker on a GPU, and slower for small models on a processor",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the model first (needs a C++ compiler, and a minute or two): for long runs",
    )
    parser.add_argument("--device", help="cpu, cuda or mps; cuda where there is one")
    parser.add_argument(
        "--parallel",
        metavar="MODE",
        help="ddp, fsdp, tensor or pipeline: share the run among the processes that torchrun has"
        " started, as docs/cluster.md shows",
    )
    parser.add_argument("--threads", type=count, help="how many of the processor to use")


def train(chosen: argparse.Namespace) -> int:
    """Say what there is to beat, train, and say how it went."""
    with _input():
        corpus, preset = _task(chosen)
        device = _device_for(chosen, corpus, preset)
        if chosen.compile:
            building.check_compiler(device)
    folder = chosen.out or folders.runs_folder() / _name(chosen)
    _use_threads(chosen.threads)
    try:
        with ExitStack() as stack, _writing_to(folder):
            if chosen.parallel:
                from course_utils.runs import distributed

                stack.enter_context(distributed.processes(device))
            with _input(), _writing_to(folder):
                stack.enter_context(folders.claimed(folder, corpus, preset))
            levels = _announce(corpus, preset, device, chosen) if processes.is_first() else {}
            log = recipes.train(corpus, preset, folder, device, chosen.compile, chosen.parallel)
            if processes.is_first():
                _report(corpus, levels, log, folder)
    except KeyboardInterrupt:
        if processes.is_first():
            print(f"\nstopped. {_what_is_left(folder, preset)}")
        return 130
    return 0


def _task(chosen: argparse.Namespace) -> tuple[sources.Corpus, presets.Preset]:
    names = ("steps", "seed", "accumulation", "save_every", "bfloat16")
    changes = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    corpus = sources.find(chosen.corpus, chosen.tokenizer, chosen.vocabulary)
    preset = presets.preset(chosen.preset, corpus, **changes)
    if not presets.fits(preset, corpus):
        raise ValueError(
            f"corpus: the text is too short for --preset {chosen.preset}, whose rows have"
            f" {preset.block + 1} tokens. Take a longer text, or one of the presets"
            f" {', '.join(presets.fitting(corpus))}"
        )
    return corpus, preset


def _device_for(chosen: argparse.Namespace, corpus: sources.Corpus, preset: presets.Preset) -> str:
    """The device of this process, of several perhaps, which fit together."""
    name = chosen.device or recipes.default_device()
    if not chosen.parallel:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(
                "parallel: torchrun has started several processes; say what they share"
            )
        return _usable(name)

    from course_utils.runs import distributed  # a second, which one process alone does not need

    recipes.check_parallel(corpus, preset, chosen.parallel, chosen.compile)
    return _usable(distributed.own_device(name))


def _what_is_left(folder: Path, preset: presets.Preset) -> str:
    if checkpoints.newest(folder) is not None:
        return f"The newest checkpoint is in {folder}: the same command goes on from it"
    return (
        f"There is no checkpoint yet, for one comes every {preset.save_every} steps: the same"
        " command begins anew. With --save-every it comes sooner"
    )


def _name(chosen: argparse.Namespace) -> str:
    """Of a run's folder: what it learns from, and how."""
    stem = chosen.corpus if chosen.corpus in sources.TOLD else Path(chosen.corpus).stem
    parts = (stem, chosen.preset, chosen.tokenizer, chosen.vocabulary)
    return "-".join(str(each) for each in parts if each is not None)


def _usable(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise WrongInput(f"device: {name!r} cannot be used here: {reason}") from None
    return name


def _use_threads(n_threads: int | None) -> None:
    if n_threads is not None:
        torch.set_num_threads(n_threads)


def _announce(
    corpus: sources.Corpus, preset: presets.Preset, device: str, chosen: argparse.Namespace
) -> dict[str, float]:
    with torch.device("meta"):
        parameters = building.n_parameters(building.build(preset, len(corpus.vocabulary)))
    how = [device, "torch's fused kernels, compared with the parts in use"]
    how += ["bfloat16"] * preset.bfloat16 + ["compiled"] * chosen.compile
    if chosen.parallel:
        how.append(f"{chosen.parallel} in {os.environ['WORLD_SIZE']} processes")
    print(f"{corpus.name}: a vocabulary of {len(corpus.vocabulary)}")
    print(f"{parameters:,} parameters, {preset.steps:,} steps of {preset.tokens_a_step:,} tokens")
    print(f"on {', '.join(how)}")
    levels = corpus.levels()
    print("to beat, in nats per token:", ", ".join(f"{k} {v:.3f}" for k, v in levels.items()))
    return levels


def _report(
    corpus: sources.Corpus, levels: dict[str, float], log: list[dict[str, float]], folder: Path
) -> None:
    """The result among the levels and others who tell the same text, the worst first."""
    last = log[-1] if log else {}
    found = {"this model": last["validation"]} if "validation" in last else {}
    nats = levels | found
    bits = {name: corpus.bits_per_byte(each) for name, each in nats.items()} | corpus.rivals()
    print("nats per token  bits per byte")
    for name in sorted(bits, key=bits.__getitem__, reverse=True):
        own = f"{nats[name]:14.3f}" if name in nats else " " * 14
        print(f"{own}  {bits[name]:13.3f}  {name}")
    if not found:
        print(f"what this model has reached is not in {folder / checkpoints.LOG} any more")
    print(f"the run is in {folder}; let it write: {typed.command('sample', '--run', folder)}")


# --- sample --------------------------------------------------------------------------------------


def add_sample(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sample`."""
    parser.add_argument(
        "--run",
        help="the folder of a run, or its name in the folder of runs; without it the newest run, or"
        " the story-teller that comes with the course",
    )
    parser.add_argument("--prompt", default="", help="how the text begins")
    parser.add_argument("--tokens", type=_number(int, 1), default=400, help="at most so many")
    parser.add_argument("--temperature", type=_number(float, 0), default=1.0)
    parser.add_argument("--top-k", type=_number(int, 1), help="keep the k best tokens")
    parser.add_argument("--top-p", type=_number(float, 0, 1, above=True), help="keep this much")
    parser.add_argument("--min-p", type=_number(float, 0, 1), help="keep this share of the best")
    parser.add_argument(
        "--repetition", type=_number(float, 0, above=True), default=1.0, help="above 1: avoid it"
    )
    parser.add_argument("--seed", type=_number(int, 0), help="to get the same text again")
    parser.add_argument(
        "--draft",
        metavar="RUN",
        help="a smaller run with the same tokens, or the word ngram for n-grams of the run's own"
        " text: it guesses some tokens ahead, and the model checks them all in one call. What is"
        " written is as probable as without it",
    )
    parser.add_argument(
        "--int8", action="store_true", help="keep the weights of linear maps in 8 bits"
    )


def sample(chosen: argparse.Namespace) -> int:
    """Write, every word as soon as it is drawn."""
    with _input():
        model, corpus, context = _model(chosen.run)
        corpus.encode(chosen.prompt)
        draft = _draft(chosen, corpus, context)
    if chosen.int8:
        model = _in_8_bits(model)
    print(chosen.prompt, end="", flush=True)
    try:
        with kernels.fused():
            add = _adding(chosen, quick.cached(model, context), draft)
            for piece in writing.go_on(corpus, chosen.prompt, chosen.tokens, context, add):
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        print()
    if isinstance(add, writing.Ahead):
        _note(f"{add.n_tokens / add.n_calls:.1f} tokens a call of the model")
    return 0


def _note(about: str) -> None:
    """Not among the text, which may go into a file."""
    print(about, file=sys.stderr)


def _draft(
    chosen: argparse.Namespace, corpus: sources.Corpus, context: int
) -> inference.Reader | None:
    """What guesses, if anything is to."""
    if chosen.draft is None:
        return None
    if chosen.repetition != 1:
        raise ValueError("draft: it cannot guess with --repetition; leave one of them away")
    if chosen.draft == "ngram":
        return writing.table(corpus)
    small, its_corpus, its_context = _model(chosen.draft)
    if list(its_corpus.vocabulary) != list(corpus.vocabulary):
        raise ValueError(f"draft: the run {chosen.draft} has other tokens than the model")
    if its_context < context:
        raise ValueError(
            f"draft: it must read as many tokens as the model, {context}, but {chosen.draft}"
            f" reads {its_context}"
        )
    return quick.cached(small, context)


def _adding(
    chosen: argparse.Namespace, model: sampling.CachedModel, draft: inference.Reader | None
) -> writing.Adds:
    if draft is None:
        return writing.one_by_one(model, _sampler(chosen))
    return writing.Ahead(model, draft, _filters(chosen), _generator(chosen))


def _in_8_bits(model: decoder.GPT) -> decoder.GPT:
    small = inference.quantised(model, 8)
    before, after = building.n_bytes(model), building.n_bytes(small)
    _note(f"int8: {after:,} bytes instead of {before:,}, {before - after:,} saved")
    return cast(decoder.GPT, small)


def _model(run: str | None) -> tuple[decoder.GPT, sources.Corpus, int]:
    """The model that is meant, its corpus, and how many tokens it may look at."""
    if run is not None:
        folder = Path(run) if Path(run).exists() else folders.runs_folder() / run
    elif (newest := folders.newest_run()) is not None:
        folder = newest
    else:
        try:
            return *writing.shipped(), STORY_CONTEXT
        except FileNotFoundError:
            raise WrongInput(
                f"run: there is none yet. Make one: {typed.command('train')}"
            ) from None
    model, corpus = recipes.load(folder)
    return model, corpus, folders.settings(folder)[1].block


def _sampler(chosen: argparse.Namespace) -> sampling.Sampler:
    penalty = partial(sampling.penalise, repetition=chosen.repetition)
    return sampling.sampler(
        *_filters(chosen),
        penalty=penalty if chosen.repetition != 1 else None,
        generator=_generator(chosen),
    )


def _filters(chosen: argparse.Namespace) -> list[sampling.Filter]:
    """The filters that were asked for, one behind the other."""
    filters: list[sampling.Filter] = [
        partial(sampling.apply_temperature, temperature=chosen.temperature)
    ]
    if chosen.top_k is not None:
        filters.append(partial(sampling.top_k, k=chosen.top_k))
    if chosen.top_p is not None:
        filters.append(partial(sampling.top_p, p=chosen.top_p))
    if chosen.min_p is not None:
        filters.append(partial(sampling.min_p, share=chosen.min_p))
    return filters


def _generator(chosen: argparse.Namespace) -> torch.Generator:
    generator = torch.Generator()
    generator.seed() if chosen.seed is None else generator.manual_seed(seeds.for_torch(chosen.seed))
    return generator


# --- search --------------------------------------------------------------------------------------


def add_search(parser: argparse.ArgumentParser) -> None:
    """The arguments of `search`."""
    parser.add_argument("folder", type=Path, help="a folder of text notes, or one file")
    parser.add_argument("words", help="what you look for, in your own words")
    parser.add_argument("--best", type=_number(int, 1), default=5, help="so many passages")


def search(chosen: argparse.Namespace) -> int:
    """Print the passages that are closest to the words, each with its file and line."""
    if not chosen.words.strip():
        raise WrongInput('words: say what you look for, such as "when to water the roses"')
    if not chosen.folder.exists():
        raise WrongInput(f"folder: there is no folder or file {chosen.folder}")
    with _input():
        model = _minilm()
        notes.check_words(chosen.words, model.tokenizer)
        passages = notes.passages(chosen.folder, model.tokenizer)
    n_files = len({passage.file for passage in passages})
    _note(f"{len(passages)} passages of {n_files} files")
    with kernels.fused():
        for cosine, passage in notes.closest(model, passages, chosen.words, chosen.best):
            print(f"{cosine:5.2f}  {passage.file}:{passage.line}")
            print(f"       {textwrap.shorten(passage.text, SHOWN, placeholder=' …')}")
    return 0


def _minilm() -> sentence_encoder.SentenceEncoder:
    try:
        return sentence_encoder.minilm()
    except ModuleNotFoundError as error:
        missing = error.name and f"{error.name} is not installed: pip install {error.name}"
        raise WrongInput(f"search: {missing or error}") from None
