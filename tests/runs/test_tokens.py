"""Runs on a text that is cut by a tokenizer: kept, taken up, written, and measured in bits."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import sampling, tokenization
from course_utils.corpora import text
from course_utils.runs import (
    baselines,
    building,
    folders,
    presets,
    recipes,
    sources,
    tokens,
    writing,
)

LINES = "".join(f"{n} bottles, and {n + 1} more; the {n}th is empty.\n" for n in range(150))
MINI = {"d_model": 8, "n_layers": 1, "n_heads": 2, "batch": 2, "n_buckets": 16, "save_every": 2}
SIZES = {"characters": None, "bytes": None, "bpe": 300, "words": 100}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "bottles.txt"
    path.write_text(LINES)
    return path


@pytest.fixture(params=SIZES, scope="module")
def corpus(request, file) -> sources.Corpus:
    return sources.find(str(file), request.param, SIZES[request.param])


@pytest.fixture(scope="module")
def bpe(file) -> sources.Corpus:
    return sources.find(str(file), "bpe", 300)


def mini(corpus: sources.Corpus, **changes: object) -> presets.Preset:
    return presets.preset("tiny", corpus, **(MINI | {"block": 64, "steps": 4} | changes))


# --- Learnt, kept, taken up ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bpe", "words"])
def test_a_tokenizer_is_learnt_from_the_part_to_learn_from_alone(name):
    learn = tokens.learner(name, 300)
    one, other = (learn(text.Text(LINES, end)) for end in (LINES, "quite another end " * 99))
    assert one.settings() == other.settings()
    assert one.settings() != learn(text.Text(LINES + "quite another end " * 99, "")).settings()


def test_a_vocabulary_has_at_most_the_size_that_is_asked_for(corpus):
    assert len(corpus.vocabulary) <= 300
    ids = torch.cat([targets.flatten() for _, targets in corpus.validation(64)])
    assert ids.max() < len(corpus.vocabulary)


def test_settings_are_json_and_enough(corpus):
    settings = corpus.settings()
    assert json.loads(json.dumps(settings)) == settings
    again = sources.kept(settings)
    assert torch.equal(again.encode("10 bottles"), corpus.encode("10 bottles"))
    assert again.decode(again.encode(" bottles is")) == " bottles is"


def test_a_run_that_is_taken_up_ends_like_one_that_was_not_stopped(corpus, tmp_path, monkeypatch):
    preset = mini(corpus, drop=0.5)
    whole = recipes.train(corpus, preset, tmp_path / "whole")
    original = sources.TextFile.batch

    def failing(self: object, seed: int, step: int, *shape: int) -> object:
        if step == 3:
            raise InterruptedError
        return original(self, seed, step, *shape)

    with monkeypatch.context() as patch:
        patch.setattr(sources.TextFile, "batch", failing)
        with pytest.raises(InterruptedError):
            recipes.train(corpus, preset, tmp_path / "stopped")
    _, again = recipes.load(tmp_path / "stopped")
    assert recipes.train(again, preset, tmp_path / "stopped") == whole
    one, other = (recipes.load(tmp_path / name)[0].state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_with_another_tokenizer_is_refused(bpe, file, tmp_path):
    recipes.train(bpe, mini(bpe, steps=1), tmp_path)
    for other in (sources.find(str(file), "bpe", 290), sources.find(str(file))):
        with pytest.raises(ValueError, match="holds a run whose text is cut into other tokens"):
            recipes.train(other, mini(other, steps=1), tmp_path)


def test_a_run_from_before_there_was_a_choice_goes_on(file, tmp_path):
    corpus = sources.find(str(file))
    whole = recipes.train(corpus, mini(corpus), tmp_path)
    path = tmp_path / folders.SETTINGS
    found = json.loads(path.read_text())
    characters = "".join(sorted(set(LINES)))
    del found["tokenizer"]
    path.write_text(json.dumps({**found, "characters": characters}))
    assert recipes.train(corpus, mini(corpus), tmp_path) == whole
    _, kept = recipes.load(tmp_path)
    assert kept.vocabulary == corpus.vocabulary


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("text", "letters"), "tokenizer must be one of characters, bytes, bpe, words, got 'let"),
        (
            ("text", "bytes", 300),
            "how many tokens there are cannot be chosen with bytes.*tokenizer bpe or words",
        ),
        (("text", None, 300), "vocabulary: .* with characters"),
        (("text", "bpe", 200), "vocabulary_size: 200 is below 256"),
        (("text", "words", 1), "vocabulary_size: 1 is below 2"),
        (("stories", "bpe", 300), "tokenizer: the tokens of stories are its words"),
        (("village", None, 300), "tokenizer: the tokens of village are its words"),
    ],
)
def test_what_cannot_be_chosen_is_refused(words, message, file):
    name, *choice = words
    with pytest.raises(ValueError, match=message):
        sources.find(str(file) if name == "text" else name, *choice)


# --- Writing -------------------------------------------------------------------------------------


def written(corpus: sources.Corpus, prompt: str, ids: list[int]) -> list[str]:
    """What `write` gives where the model chooses these ids."""
    chosen = iter(ids)
    model = building.build(mini(corpus), len(corpus.vocabulary)).eval()
    choose = lambda *_: torch.tensor([next(chosen)])  # noqa: E731
    return list(writing.write(model, corpus, prompt, len(ids), choose, context=64))


@settings(max_examples=40, deadline=None)
@given(prompt=st.text(min_size=1, max_size=9), rest=st.text(max_size=9))
@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_no_character_is_written_before_it_is_complete(name, prompt, rest, file):
    corpus = sources.find(str(file), name, SIZES[name])
    pieces = written(corpus, prompt, corpus.encode(rest).tolist() if rest else [])
    assert "".join(pieces) == rest
    for piece in pieces:
        assert set(piece) <= set(rest)


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.integers(0, 255), max_size=30))
def test_bytes_that_are_no_text_are_written_too(ids, file):
    corpus = sources.find(str(file), "bytes")
    assert "".join(written(corpus, "a", ids)) == bytes(ids).decode(errors="replace")


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_a_prompt_may_have_characters_that_were_never_seen(name, file, tmp_path):
    corpus = sources.find(str(file), name, SIZES[name])
    recipes.train(corpus, mini(corpus, steps=1), tmp_path)
    model, kept = recipes.load(tmp_path)
    assert "".join(writing.write(model, kept, "ü🚗 月", 20, sampling.greedy, 64))


@pytest.mark.parametrize("prompt", ["", " ", "\n"])
def test_a_prompt_may_be_nearly_nothing(prompt, corpus):
    assert len(corpus.encode(prompt)) >= 1
    written(corpus, prompt, [0, 1, 2])


# --- Bits per byte -------------------------------------------------------------------------------


def test_a_fair_choice_of_bytes_is_8_bits(file):
    assert sources.find(str(file), "bytes").bits_per_byte(math.log(256)) == pytest.approx(8)


def test_characters_and_bytes_of_plain_english_cost_the_same(file):
    nats = 1.7
    one, other = (sources.find(str(file), name) for name in ("characters", "bytes"))
    assert one.bits_per_byte(nats) == pytest.approx(other.bits_per_byte(nats))


def test_longer_tokens_may_cost_more_each(bpe, file):
    per_token = len(text.read(file).validation) / len(bpe.encode(text.read(file).validation))
    assert bpe.bits_per_byte(per_token) == pytest.approx(1 / math.log(2))


def test_rivals_tell_the_same_text(corpus, file):
    rivals = corpus.rivals()
    found = text.read(file)
    assert rivals["gzip behind the training text"] == baselines.compressed_bits_per_byte(
        found.validation, found.training
    )
    by_characters = sources.find(str(file))
    five_gram = by_characters.bits_per_byte(by_characters.levels()["5-gram"])
    assert rivals.get("5-gram of characters", five_gram) == five_gram
    assert ("5-gram of characters" in rivals) == (corpus != by_characters)


def test_unknown_words_are_spelled_and_paid_for(file):
    """Beside a closed form: the tokens' share is the same, and the spelling is a 5-gram's."""
    found = text.read(file)
    few = sources.find(str(file), "words", 20)
    words = tokenization.pretokenize(found.validation)
    lost = [word for word in words if word not in few.vocabulary]
    assert few.encode(found.validation).tolist().count(0) == len(lost) > 30
    n_bytes = len(found.validation.encode())
    whole = 2.5 * len(words) / math.log(2) / n_bytes
    assert few.bits_per_byte(2.5) > whole
    known = set(tokenization.pretokenize(found.training))
    spelled = baselines.spelling(lost, known) / math.log(2) / n_bytes
    assert few.bits_per_byte(2.5) == pytest.approx(whole + spelled)


def test_nobody_gains_by_not_knowing_words(file):
    """With one word and [UNK], tokens cost next to nothing. The text does not."""
    nothing = sources.find(str(file), "words", 2)
    assert nothing.levels()["5-gram"] < 0.3
    assert nothing.bits_per_byte(0.0) > sources.find(str(file)).bits_per_byte(0.0) == 0
    assert nothing.bits_per_byte(nothing.levels()["5-gram"]) > 0.5


@pytest.mark.parametrize("name", ["stories", "village"])
def test_texts_of_ours_have_bits_too(name, monkeypatch):
    monkeypatch.setattr(sources, "N_VALIDATION_TEXTS", 3)
    told = sources.find(name)
    tokens_asked = sum(int((t != sources.NOT_COUNTED).sum()) for _, t in told.validation(149))
    n_bytes = sum(len(told.source.text(words)) + 1 for words in told.source.validation(3))
    assert told.bits_per_byte(1.0) == pytest.approx(tokens_asked / n_bytes / math.log(2))
    assert told.rivals() == {}
