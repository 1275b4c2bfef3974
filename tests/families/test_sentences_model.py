"""The shipped sentences model is what data/README.md says, and its script still trains."""

import hashlib
import runpy
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import torch

from course_utils import attention, decoder
from course_utils.corpora import sentences
from course_utils.families.pretrained import sentences_model

DATA = Path(__file__).parents[2] / "data"
script = SimpleNamespace(**runpy.run_path(str(DATA / "train_sentences_model.py")))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> decoder.GPT:
    return sentences_model()


@pytest.fixture(scope="module")
def cases():
    """Distracted beginnings, none of which the model met while it was trained."""
    training = Random(script.SEED)
    n_trained = script.STEPS * script.SENTENCES_A_STEP
    drawn = [sentences.sample(training) for _ in range(n_trained)]
    met = {tuple(case.words) for case in script.distracted(drawn)}
    fresh = Random(script.HELD_OUT_SEED)
    found = script.distracted(sentences.sample(fresh) for _ in range(3000))
    return [case for case in found if tuple(case.words) not in met]


def test_the_file_is_the_one_in_the_readme():
    weights = (DATA / "sentences_model.safetensors").read_bytes()
    assert len(weights) < 600_000
    assert hashlib.sha256(weights).hexdigest() in (DATA / "README.md").read_text()


def test_the_model_is_ready_to_predict(model):
    assert not model.training
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    assert model.embed.tokens.weight.shape == (len(sentences.VOCABULARY), script.CONFIG["d_model"])
    names = {name for name in model.state_dict() if name.startswith("blocks.0.attention")}
    maps = ("w_q", "w_k", "w_v", "w_o")
    assert names == {f"blocks.0.attention.{m}.{p}" for m in maps for p in ("weight", "bias")}


def test_the_loss_is_close_to_the_floor_and_not_below_it(model):
    rows = sentences.batch(Random(script.HELD_OUT_SEED), 1000)
    loss, floor = script.loss_per_sentence(model, rows).item(), script.floor(rows)
    assert floor < loss < 1.01 * floor


def test_predictions_are_close_to_the_exact_probabilities(model):
    random = Random(7)
    for _ in range(100):
        words = sentences.sample(random)
        predicted = model(sentences.encode([sentences.START, *words])[None])[0].softmax(-1)
        for place in range(len(words) + 1):
            exact = torch.zeros(len(sentences.VOCABULARY))
            for word, probability in sentences.next_words(words[:place]).items():
                exact[sentences.encode([word])] = probability
            assert (predicted[place] - exact).abs().sum() / 2 < 0.15, words[:place]


def test_verbs_agree_in_sentences_that_were_never_met(model, cases):
    assert len(cases) > 100
    assert script.agreement(model, cases) == 1.0


def test_the_head_that_looks_at_the_subject_is_the_one_that_matters(model, cases):
    weights = script.looks(model, cases[:200])
    layer, head = divmod(int(weights[..., 0].argmax()), script.CONFIG["n_heads"])
    assert weights[layer, head, 0] > 0.9 > 0.1 > weights[layer, head, 1]
    for other in range(script.CONFIG["n_heads"]):
        agreement = script.agreement(script.without_head(model, layer, other), cases[:200])
        assert agreement < 0.7 if other == head else agreement > 0.95


def test_notebook_00_shows_that_head(model):
    tokens = [sentences.START, "the", "cars", "near", "the", "old", "dog", "are", "fast"]
    with attention.record() as maps:
        model(sentences.encode(tokens)[None])
    looks = torch.stack([weights[0, :, tokens.index("dog")] for weights in maps.values()])
    strongest = looks[..., tokens.index("cars")]
    layer, head = divmod(int(strongest.argmax()), script.CONFIG["n_heads"])
    assert tokens[int(looks[layer, head].argmax())] == "cars"
    assert strongest.max() > 0.9
    assert strongest.flatten().sort().values[-2] < 0.5


def test_a_few_steps_of_training_lower_the_loss():
    rows = sentences.batch(Random(script.HELD_OUT_SEED), 200)
    model = script.new_model()
    before = script.loss_per_sentence(model, rows)
    with torch.enable_grad():
        script.train(model, steps=20)
    assert script.loss_per_sentence(model, rows) < 0.8 * before
