"""Recipes and their command line: from a corpus to a trained model, and to what it writes."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import __main__ as program
from course_utils import sampling, training
from course_utils.corpora import stories
from course_utils.runs import building, checkpoints, folders, presets, recipes, sources, writing

TEXT = "".join(f"{n} bottles, and {n + 1} more; the {n}th is empty.\n" for n in range(100))
MINI = {"d_model": 8, "n_layers": 1, "n_heads": 2, "batch": 2, "n_buckets": 16, "save_every": 2}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    """A folder of runs for every test, and short work for the n-grams."""
    monkeypatch.setenv("COURSE_UTILS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(sources, "N_COUNTED_TOKENS", 5000)
    monkeypatch.setattr(sources, "N_VALIDATION_TEXTS", 20)
    return tmp_path / "runs"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "bottles.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def small(monkeypatch) -> None:
    """Presets that are trained in a second."""
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(presets.PRESETS["tiny"], **MINI))
    monkeypatch.setitem(presets.CHANGES, ("tiny", "stories"), {"block": 128})
    monkeypatch.setitem(presets.CHANGES, ("tiny", "village"), {"block": 149})


def mini(corpus: sources.Corpus, **changes: object) -> presets.Preset:
    return presets.preset("tiny", corpus, **(MINI | {"block": 128, "steps": 4} | changes))


# --- Corpora -------------------------------------------------------------------------------------


@pytest.fixture(params=["stories", "village", "text"])
def corpus(request, file) -> sources.Corpus:
    return sources.find(str(file) if request.param == "text" else request.param)


def test_rows_are_shifted_and_decided_by_seed_and_step(corpus):
    inputs, targets = corpus.batch(1, 2, 3, 40)
    assert inputs.shape == targets.shape == (3, 40)
    counted = targets[:, :-1] != sources.NOT_COUNTED
    assert torch.equal(inputs[:, 1:][counted], targets[:, :-1][counted])
    assert torch.equal(inputs, corpus.batch(1, 2, 3, 40)[0])
    assert not torch.equal(inputs, corpus.batch(1, 3, 3, 40)[0])
    assert not torch.equal(inputs, corpus.batch(2, 2, 3, 40)[0])


def test_all_that_is_kept_for_testing_is_asked_for_once(corpus):
    asked = [
        target
        for inputs, targets in corpus.validation(149)
        for target in targets[targets != sources.NOT_COUNTED].tolist()
    ]
    if isinstance(corpus, sources.Told):
        told = corpus.source.validation(20)
        expected = corpus.source.encode([word for one in told for word in [*one, "<end>"]])
    else:
        expected = corpus.encode(TEXT[len(TEXT) * 9 // 10 - 40 :])[-len(asked) :]
        assert abs(len(asked) - len(TEXT) / 10) < 40
    assert asked == expected.tolist()


def test_a_loss_is_that_of_the_whole_validation_set(corpus):
    """However it is cut in batches: a model without context costs what its probabilities say."""
    n = len(corpus.vocabulary)
    logits = torch.randn(n, generator=torch.Generator().manual_seed(0))
    loss = training.evaluate(_Frequencies(logits), corpus.validation(149))
    targets = torch.cat([t[t != sources.NOT_COUNTED] for _, t in corpus.validation(149)])
    assert loss == pytest.approx(-logits.log_softmax(-1)[targets].mean().item(), rel=1e-5)


class _Frequencies(torch.nn.Module):
    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*ids.shape, -1)


def test_levels_are_in_their_order(corpus):
    levels = corpus.levels()
    assert levels["uniform"] == pytest.approx(math.log(len(corpus.vocabulary)))
    assert list(levels.values()) == sorted(levels.values(), reverse=True)
    assert ("floor" in levels) == (corpus.name != "text")


def test_what_is_kept_of_a_corpus_is_enough_to_write(corpus):
    again = sources.kept(json.loads(json.dumps(corpus.settings())))
    prompt = {"stories": "the ball is in", "village": "nell went to", "text": "10 bottles"}[
        corpus.name
    ]
    assert torch.equal(again.encode(prompt), corpus.encode(prompt))
    assert again.decode(again.encode(prompt)).lower() == prompt
    assert again.settings() == corpus.settings()


def test_a_story_may_be_typed_as_people_write(runs):
    corpus = sources.find("stories")
    typed = corpus.encode("Where is the ball? The ball is in the box.")
    words = "where is the ball ? the ball is in the box .".split()
    assert typed.tolist() == stories.encode([stories.START, *words]).tolist()
    with pytest.raises(ValueError, match="'spaceship' is not one of the"):
        corpus.encode("The spaceship")


@pytest.mark.parametrize("name", ["stories", "village"])
def test_a_corpus_with_other_words_is_not_ours(name):
    with pytest.raises(ValueError, match=f"{name}.*other words"):
        sources.kept({"corpus": name, "words_checksum": "00000000"})


def test_a_corpus_that_is_gone_is_named():
    with pytest.raises(ValueError, match="no corpus 'gossip'"):
        sources.kept({"corpus": "gossip", "words_checksum": "00000000"})


def test_a_row_must_hold_a_story():
    with pytest.raises(ValueError, match=r"n_tokens must be at least .* got 64"):
        sources.find("stories").validation(64)


# --- Presets -------------------------------------------------------------------------------------


def test_gpt2_has_the_size_of_gpt2():
    preset = presets.PRESETS["gpt2"]
    with torch.device("meta"):
        model = building.build(preset, 50257)
    assert (
        building.n_parameters(model) == 124_439_808
    )  # transformers: GPT2LMHeadModel(GPT2Config())
    assert model.head.weight is model.embed.tokens.weight
    assert preset.tokens_a_step == 2**19
    matrices, vectors = building.optimiser(preset, model).param_groups
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert {each.ndim for each in matrices["params"]} == {2}
    assert {each.ndim for each in vectors["params"]} == {1}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_suits_every_corpus(name, corpus):
    preset = presets.preset(name, corpus)
    assert max(inputs.shape[1] for inputs, _ in corpus.validation(preset.block)) <= preset.block
    with torch.device("meta"):
        building.optimiser(preset, building.build(preset, len(corpus.vocabulary)))


def test_a_seed_decides_the_first_weights(corpus):
    one, same, other = (
        building.build(mini(corpus, seed=seed), 9).state_dict()["embed.tokens.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"n_heads": 3}, "d_model must be a multiple of n_heads = 3"),
        ({"parts": "gpt5"}, "parts must be .* got 'gpt5'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes, message, corpus):
    with pytest.raises(ValueError, match=message):
        presets.preset("tiny", corpus, **changes)


def test_a_preset_that_does_not_exist_is_named(corpus):
    names = "tiny, small, nano, gpt2"
    with pytest.raises(ValueError, match=f"preset must be one of {names}, got 'huge'"):
        presets.preset("huge", corpus)


def test_a_long_text_gets_more_steps(file, monkeypatch):
    corpus = sources.TextFile.open(file)
    own = presets.PRESETS["tiny"].steps
    assert presets.preset("tiny", corpus).steps == own
    monkeypatch.setattr(sources.TextFile, "counted", lambda _: torch.zeros(4_000_000))
    assert presets.preset("tiny", corpus).steps == 2 * own
    assert presets.preset("tiny", corpus, steps=7).steps == 7
    assert presets.preset("tiny", sources.Stories()).steps != 2 * own


# --- Runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"accumulation": 3}, {"bfloat16": True}, {"parts": "gpt2", "accumulation": 2}],
    ids=str,
)
def test_a_run_that_is_taken_up_ends_like_one_that_was_not_stopped(
    changes, corpus, tmp_path, monkeypatch
):
    preset = mini(corpus, drop=0.5, seed=3, **changes)
    whole = recipes.train(corpus, preset, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(corpus.__class__, "batch", _failing_at(3 * preset.accumulation, corpus))
        with pytest.raises(InterruptedError):
            recipes.train(corpus, preset, tmp_path / "stopped")
    assert recipes.train(corpus, preset, tmp_path / "stopped") == whole
    weights, others = (recipes.load(tmp_path / name)[0] for name in ("whole", "stopped"))
    for name, value in weights.state_dict().items():
        assert torch.equal(value, others.state_dict()[name]), name


def _failing_at(
    number: int, corpus: sources.Corpus, error: type[BaseException] = InterruptedError
) -> Callable:
    original = corpus.__class__.batch

    def batch(self: object, seed: int, step: int, *shape: int) -> training.Batch:
        if step == number and shape[0] > 1:
            raise error
        return original(self, seed, step, *shape)

    return batch


def test_accumulated_rows_are_all_different(corpus, tmp_path, monkeypatch):
    drawn = []
    original = corpus.__class__.batch
    monkeypatch.setattr(
        corpus.__class__,
        "batch",
        lambda self, seed, step, *shape: drawn.append(step) or original(self, seed, step, *shape),
    )
    recipes.train(corpus, mini(corpus, steps=2, accumulation=3), tmp_path)
    assert drawn == list(range(6))


def test_a_model_learns(corpus, tmp_path):
    log = recipes.train(corpus, mini(corpus, steps=25, d_model=16, batch=4), tmp_path)
    assert log[-1]["validation"] < corpus.levels()["uniform"] - 0.5
    model, kept = recipes.load(tmp_path)
    again = training.evaluate(model, kept.validation(128))
    assert again == pytest.approx(log[-1]["validation"], rel=1e-4)  # without fused kernels


def test_bfloat16_rounds_and_gives_float32(corpus):
    model = building.build(mini(corpus), len(corpus.vocabulary))
    ids, _ = corpus.batch(0, 0, 2, 16)
    exact = model(ids)
    building.use_bfloat16(model, "cpu")
    rounded = model(ids)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_kernels_are_those_of_the_parts_again_after_a_run(corpus, tmp_path):
    before = training.cross_entropy
    fused = recipes.train(corpus, mini(corpus), tmp_path / "fused")
    assert training.cross_entropy is before
    explicit = recipes.train(corpus, mini(corpus), tmp_path / "explicit", fused=False)
    for one, other in zip(fused, explicit, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_model_of_a_text_needs_the_text_no_more(file, tmp_path):
    corpus = sources.find(str(file))
    preset = mini(corpus, steps=1)
    recipes.train(corpus, preset, tmp_path / "run")
    file.unlink()
    model, kept = recipes.load(tmp_path / "run")
    assert folders.settings(tmp_path / "run")[1] == preset
    assert "".join(writing.write(model, kept, "7 bottles", 5, sampling.greedy, 64))


def test_folders_without_a_model_are_named(corpus, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        recipes.load(tmp_path)
    folders.claim(tmp_path, corpus, mini(corpus))
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        recipes.load(tmp_path)
    (tmp_path / "run.json").write_text("not JSON")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        recipes.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"corpus": "stories"}))
    with pytest.raises(ValueError, match="does not have the settings of a run"):
        recipes.load(tmp_path)


def test_a_checkpoint_that_has_gone_is_looked_for_again(corpus, tmp_path, monkeypatch):
    """As beside a training that saves every step."""
    recipes.train(corpus, mini(corpus, steps=1), tmp_path)
    newest = checkpoints.newest

    def replaced(folder: Path) -> Path:
        monkeypatch.setattr(checkpoints, "newest", newest)
        return Path(folder, "step_00000000.safetensors")

    for use in (recipes.load, checkpoints.saved_at):
        monkeypatch.setattr(checkpoints, "newest", replaced)
        assert use(tmp_path)


def test_runs_are_kept_where_the_learner_says(runs, monkeypatch):
    assert folders.runs_folder() == runs
    monkeypatch.delenv("COURSE_UTILS_RUNS")
    assert folders.runs_folder() == Path(__file__).parents[2] / "my_runs"


def test_the_newest_run_is_the_one_with_the_newest_checkpoint(corpus, runs):
    assert folders.newest_run() is None
    for name in ("b", "a"):
        recipes.train(corpus, mini(corpus, steps=1), runs / name)
    folders.claim(runs / "c", corpus, mini(corpus))  # no checkpoint yet
    assert folders.newest_run() == runs / "a"
    os.utime(checkpoints.newest(runs / "b"), (time.time() + 9, time.time() + 9))
    assert folders.newest_run() == runs / "b"


# --- Writing -------------------------------------------------------------------------------------


def test_what_is_written_is_what_generate_gives(file):
    corpus = sources.find(str(file))
    model = building.build(mini(corpus), len(corpus.vocabulary)).eval()
    torch.nn.init.normal_(model.blocks[0].attention.w_o.weight)
    prompt = corpus.encode("7 bottles")
    expected = sampling.generate(model, prompt[None], 30, sampling.greedy)[0, len(prompt) :]
    written = writing.write(model, corpus, "7 bottles", 30, sampling.greedy, context=64)
    assert list(written) == list(corpus.decode(expected))  # a character at a time


@pytest.mark.parametrize("context", [1, 2, 7, 8])
def test_a_model_never_sees_more_than_its_context(context, file):
    corpus = sources.find(str(file))
    preset = mini(corpus, parts="gpt2", block=context)  # which refuses more
    model = building.build(preset, len(corpus.vocabulary)).eval()
    prompt = "10 bottles, and"
    written = writing.write(model, corpus, prompt, 20, sampling.greedy, context)
    assert len("".join(written)) == 20


def test_a_story_ends_where_it_ends():
    corpus = sources.find("stories")
    told = iter(stories.encode([*"mia laughed .".split(), stories.END, "tom"]).tolist())
    model = building.build(mini(corpus), len(corpus.vocabulary)).eval()
    pieces = list(
        writing.write(model, corpus, "", 99, lambda *_: torch.tensor([next(told)]), context=128)
    )
    assert pieces == ["Mia", " laughed", "."]


# --- The command line ----------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command; what it returned and what it printed."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["course_utils", *map(str, words)])
        try:
            status = program.main()
        except SystemExit as exit_:
            status = exit_.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("which", ["stories", "village", "text"])
def test_train_and_sample(which, call, file, runs):
    name, folder = (file, "bottles-tiny") if which == "text" else (which, f"{which}-tiny")
    status, printed = call(
        "train", "--corpus", name, "--steps", 3, "--accumulate", 2, "--save-every", 2
    )
    assert status == 0
    preset = folders.settings(runs / folder)[1]
    assert (preset.steps, preset.accumulation, preset.save_every) == (3, 2, 2)
    expected_words = ("uniform", "5-gram", "kernels", "nats per token  bits per byte")
    for expected in (f"{2 * preset.batch * preset.block:,} tokens", *expected_words):
        assert expected in printed
    assert printed.index("to beat") < printed.index("this model") < printed.index("the run is in")
    assert str(runs / folder) in printed
    assert ("floor" in printed) == (which != "text")
    prompt = {"stories": "Where is the", "village": "Nell went to", "text": "9 bottles"}[which]
    status, written = call("sample", "--prompt", prompt, "--tokens", 12, "--seed", 1)
    assert status == 0 and written.startswith(prompt) and len(written) > len(prompt) + 5
    again = ("sample", "--run", folder, "--prompt", prompt, "--tokens", 12, "--seed", 1)
    assert call(*again) == (0, written)
    assert call(*again[:-1], 2)[1] != written
    best = call(*again, "--temperature", 0)[1]
    for only_the_best in (("--top-k", 1), ("--top-p", 1e-9), ("--min-p", 1)):
        assert call(*again, *only_the_best)[1] == best


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("which", ["stories", "text"])
def test_a_draft_changes_no_greedy_text(which, call, file, runs):
    name = file if which == "text" else which
    call("train", "--corpus", name, "--steps", 3)
    call("train", "--corpus", name, "--steps", 2, "--out", runs / "smaller")
    best = ("sample", "--run", f"{Path(name).stem}-tiny", "--tokens", 40, "--temperature", 0)
    status, wanted = call(*best)
    assert status == 0
    for draft in ("ngram", "smaller", runs / "smaller"):
        status, found = call(*best, "--draft", draft)
        text, _, note = found.rpartition("\n")[0].rpartition("\n")
        assert status == 0 and text + "\n" == wanted
        assert 1 <= float(note.removesuffix(" tokens a call of the model")) <= 5


@pytest.mark.usefixtures("small")
def test_a_draft_must_fit(call, file, tmp_path, runs, monkeypatch):
    call("train", "--corpus", file, "--steps", 1)
    call("train", "--corpus", "stories", "--steps", 1)
    shorter = replace(presets.PRESETS["tiny"], block=16)
    monkeypatch.setitem(presets.PRESETS, "tiny", shorter)
    call("train", "--corpus", file, "--steps", 1, "--out", runs / "shorter")
    sample = ("sample", "--run", "bottles-tiny", "--draft")
    for words, message in [
        (("nowhere",), "there is no run in"),
        (("stories-tiny",), "has other tokens than the model"),
        (("shorter",), "it must read as many tokens as the model, 256, but shorter reads 16"),
        (("ngram", "--repetition", 1.2), "it cannot guess with --repetition"),
    ]:
        status, printed = call(*sample, *words)
        assert status == 2 and message in printed, (words, printed)
    file.unlink()
    status, printed = call(*sample, "ngram")
    assert status == 2 and "there is no file" in printed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("parts", ["modern", "gpt2"])
def test_weights_may_be_kept_in_8_bits(parts, call, file, runs, monkeypatch):
    preset = replace(presets.PRESETS["tiny"], parts=parts, d_model=64, steps=30)
    monkeypatch.setitem(presets.PRESETS, "tiny", preset)
    call("train", "--corpus", file)
    model, _ = recipes.load(runs / "bottles-tiny")
    linear = [each for each in model.modules() if isinstance(each, nn.Linear)]
    best = ("sample", "--prompt", "9 bottles", "--tokens", 30, "--temperature", 0)
    status, found = call(*best, "--int8")
    text, note = found.split("int8: ")
    assert status == 0 and text.startswith("9 bottles") and len(text) > len("9 bottles") + 5
    saved = sum(3 * each.weight.numel() - 4 * each.out_features for each in linear)
    if parts == "gpt2":  # the head shares its weights with the embedding, which keeps them
        saved -= 4 * model.head.weight.numel()
    assert note.endswith(f" {saved:,} saved\n")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["characters", "bytes", "bpe", "words"])
def test_a_text_may_be_cut_by_any_tokenizer(name, call, file, runs):
    size = ("--vocabulary", 300) if name in ("bpe", "words") else ()
    status, printed = call("train", "--corpus", file, "--tokenizer", name, *size, "--steps", 2)
    assert status == 0
    table = printed.split("bits per byte\n")[1].split("the run is in")[0].splitlines()
    names = [row[31:] for row in table]
    assert {"this model", "5-gram", "gzip behind the training text"} < {*names}
    bits = [float(row[14:29]) for row in table]
    assert bits == sorted(bits, reverse=True)
    file.unlink()
    folder = "-".join(["bottles-tiny", name, *map(str, size[1:])])
    status, written = call("sample", "--run", folder, "--prompt", "9 bottles", "--tokens", 12)
    assert status == 0 and len(written) > len("9 bottles\n")


@pytest.mark.usefixtures("small")
def test_wrong_input_is_named(call, file, tmp_path):
    call("train", "--corpus", file, "--steps", 1)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n" * 500)
    for words, message in [
        (("train", "--corpus", tmp_path / "none.txt"), "there is no file"),
        (("train", "--corpus", tmp_path / "picture.png"), "is not text in UTF-8"),
        (("train", "--preset", "huge"), "preset must be one of"),
        (("train", "--tokenizer", "bpe"), "tokenizer: the tokens of stories are its words"),
        (("train", "--corpus", file, "--tokenizer", "letters"), "tokenizer must be one of"),
        (("train", "--corpus", file, "--vocabulary", 300), "cannot be chosen with characters"),
        (
            ("train", "--corpus", file, "--tokenizer", "bpe", "--vocabulary", 99),
            "vocabulary_size: 99 is below 256",
        ),
        (("train", "--steps", "many"), "argument --steps: must be a whole number from 1, got"),
        (("train", "--steps", "0"), "argument --steps: must be a whole number from 1, got '0'"),
        (("train", "--device", "abacus"), "device: 'abacus' cannot be used here"),
        (("train", "--corpus", file, "--steps", 2), "steps = 1, and this one has steps = 2"),
        (("sample", "--prompt", "9 bottlés"), "the character 'é' is not one of"),
        (("sample", "--run", "nowhere"), "there is no run in"),
        (("sample", "--top-p", "1.5"), "argument --top-p: must be a number above 0 to 1, got"),
        (("sample", "--top-k", "0"), "argument --top-k: must be a whole number from 1"),
        (("sample", "--temperature", "-1"), "argument --temperature: must be a number from 0"),
        (("sample", "--temperature", "nan"), "argument --temperature: must be a number from 0"),
    ]:
        status, printed = call(*words)
        assert status == 2 and message in printed, (words, printed)


def test_a_text_shorter_than_a_row_is_refused(call, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text(TEXT[:1100])
    status, printed = call("train", "--corpus", path, "--preset", "gpt2")
    assert status == 2 and "too short for --preset gpt2, whose rows have 1025 tokens" in printed
    assert "one of the presets tiny, small, nano" in printed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("step", "message"),
    [(0, "There is no checkpoint yet, for one comes every 2 steps"), (3, "goes on from it")],
)
def test_ctrl_c_says_how_to_go_on(step, message, call, file, monkeypatch, runs):
    corpus = sources.find(str(file))
    batch = _failing_at(step, corpus, KeyboardInterrupt)
    monkeypatch.setattr(sources.TextFile, "batch", batch)
    status, printed = call("train", "--corpus", file, "--steps", 6)
    assert status == 130 and message in printed
    assert (runs / "bottles-tiny").exists() == (step > 0)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", [20261127050732, 2**63, 10**30])
def test_any_seed_will_do(seed, call, file):
    words = ("--corpus", file, "--seed", seed)
    assert call("train", *words, "--steps", 2)[0] == 0
    written = call("sample", "--prompt", "9 bottles", "--tokens", 9, "--seed", seed)
    assert written[0] == 0
    assert call("sample", "--prompt", "9 bottles", "--tokens", 9, "--seed", seed) == written


@pytest.mark.usefixtures("small")
def test_a_finished_run_may_have_lost_its_log(call, file, runs):
    words = ("train", "--corpus", file, "--steps", 3)
    call(*words)
    (runs / "bottles-tiny/log.jsonl").unlink()
    status, printed = call(*words)
    assert status == 0 and "is not in" in printed and "log.jsonl any more" in printed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("failing", ["save_file", "write_whole"])
def test_a_disk_that_is_full_is_named_with_what_helps(failing, call, file, runs, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, failing, fail)
    status, printed = call("train", "--corpus", file, "--steps", 3)
    assert status == 2
    for expected in (str(runs / "bottles-tiny"), "No space left", "--out", "COURSE_UTILS_RUNS"):
        assert expected in printed
    assert "Make room" in printed
    left = {path.name for path in runs.glob("*/*")}
    assert left == (set() if failing == "write_whole" else {".lock", "log.jsonl", "run.json"})


@pytest.mark.usefixtures("small")
def test_a_file_in_place_of_the_folder_is_named(call, file):
    status, printed = call("train", "--corpus", file, "--steps", 3, "--out", file)
    assert (
        status == 2 and f"out: nothing can be written to {file}" in printed and "--out" in printed
    )


def test_a_compiler_that_is_not_there_is_named(call, file, monkeypatch, runs):
    def compile(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", compile)
    status, printed = call("train", "--corpus", file, "--compile")
    assert status == 2 and "cannot compile here (No working C++ compiler found)" in printed
    assert not runs.exists()


@pytest.mark.usefixtures("small")
def test_a_printed_command_can_be_typed(call, file, tmp_path):
    folder = tmp_path / "my first run"
    _, printed = call("train", "--corpus", file, "--steps", 2, "--out", folder)
    typed = shlex.split(printed.split("let it write: ")[1].splitlines()[0])
    assert typed[1:] == ["-m", "course_utils", "sample", "--run", str(folder)]
    assert Path(shutil.which(typed[0])).samefile(sys.executable)


def test_a_character_that_is_not_known_is_named_without_all_that_are(call, tmp_path, monkeypatch):
    corpus = sources.find("stories")
    known = "".join(map(chr, range(33, 1000)))
    with pytest.raises(ValueError, match="the character '月' is not one of the 967") as caught:
        sources.text.Characters(known).encode("moon 月"[5:])
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="'spaceship'") as caught:
        corpus.encode("The spaceship")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("command", ["sample", "progress", "solution", "hint", "train", "parity"])
def test_what_a_console_cannot_print_is_no_error(command, file, tmp_path):
    """A Windows console, or a file behind a `>`, in which most characters do not exist."""
    words = {
        "sample": ["--prompt", "→ 月", "--tokens", "5", "--run", tmp_path / "run→"],
        "train": ["--corpus", file, "--steps", "2", "--out", tmp_path / "run→"],
        "solution": ["attention.softmax"],
        "hint": ["attention.score_scale"],
    }
    file.write_text(TEXT + "→ 月\n" * 40, encoding="utf-8")
    if command == "sample":
        corpus = sources.find(str(file))
        recipes.train(corpus, mini(corpus, steps=1), tmp_path / "run→")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COURSE_UTILS_HOME": f"{tmp_path}/月"}
    done = subprocess.run(
        [sys.executable, "-c", SMALL_COMMAND, command, *words.get(command, [])],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout


def test_without_a_run_the_story_teller_of_the_course_writes(call, monkeypatch):
    def missing() -> None:
        raise FileNotFoundError

    monkeypatch.setattr(writing.pretrained, "stories_model", missing)
    status, printed = call("sample")
    assert status == 2 and "there is none yet. Make one: " in printed
    assert "-m course_utils train\n" in printed
    corpus = sources.Stories()
    model = building.build(mini(corpus), len(corpus.vocabulary)).eval()
    monkeypatch.setattr(writing.pretrained, "stories_model", lambda: model)
    status, printed = call("sample", "--prompt", "Mia", "--tokens", 9, "--seed", 1)
    assert status == 0 and printed.startswith("Mia ")


SMALL_COMMAND = """
from dataclasses import replace
from course_utils import __main__
from course_utils.runs import presets
presets.PRESETS["tiny"] = replace(presets.PRESETS["tiny"], d_model=8, n_buckets=16, save_every=4)
raise SystemExit(__main__.main())
"""


SEEN = """
import sys
sys.argv[0] = "-m"
from course_utils import __main__
assert __main__.main() == 0
heavy = {"course_utils.runs.distributed", "transformers", "matplotlib.pyplot", "bertviz"}
print("seen:", sorted(heavy & sys.modules.keys()))
"""


@pytest.mark.parametrize("command", ["progress", "train"])
def test_a_command_imports_no_more_than_it_needs(command, file, tmp_path):
    """`distributed` takes a second, which one process alone does not need."""
    words = ["--corpus", file, "--steps", "1", "--out", tmp_path] if command == "train" else []
    done = subprocess.run(
        [sys.executable, "-c", SEEN, command, *words],
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.endswith("seen: []\n"), done.stdout + done.stderr


@pytest.mark.parametrize("cut", [(), ("--tokenizer", "bpe", "--vocabulary", "300")], ids=str)
def test_a_command_that_is_killed_goes_on(cut, file, tmp_path):
    """A process of its own, SIGKILL, and the same command again."""

    def start(name: str) -> subprocess.Popen:
        words = ["train", "--corpus", file, *cut, "--steps", "40", "--out", tmp_path / name]
        return subprocess.Popen(
            [sys.executable, "-c", SMALL_COMMAND, *words],
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )

    alone, killed = start("alone"), start("killed")
    while not checkpoints.newest(tmp_path / "killed") and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    assert killed.wait(60) != 0
    assert start("killed").wait(100) == alone.wait(100) == 0
    for name in ("step_00000040.safetensors", "log.jsonl"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
