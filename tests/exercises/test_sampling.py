"""Answers to notebook 08 that were judged wrongly once: refused though right, or accepted."""

import pytest

from course_utils import exercises
from course_utils.engine import parts
from course_utils.engine.check import check
from course_utils.engine.verdict import Verdict


def verdict_on(name: str, source: str) -> Verdict:
    """The verdict on a source that defines the part, beside the references of the others."""
    part = f"sampling.{name}"
    namespace = dict(parts.namespace(part))
    exec(source, namespace)
    return check(exercises.find(part), namespace[name])


RIGHT = {
    "entropy, torch's own": """
def entropy(logits):
    return torch.special.entr(logits.softmax(-1)).sum(-1)
""",
    "entropy, xlogy": """
def entropy(logits):
    p = logits.softmax(-1)
    return -torch.xlogy(p, p).sum(-1)
""",
    "entropy, where after log": """
def entropy(logits):
    p = logits.softmax(-1)
    return -torch.where(p == 0, 0, p * p.log()).sum(-1)
""",
    "perplexity, NumPy": """
import numpy as np
def perplexity(logits, targets, ignore_index=-100):
    z, t = logits.numpy().reshape(-1, logits.shape[-1]), targets.numpy().reshape(-1)
    z = z[t != ignore_index] - z[t != ignore_index].max(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return float(np.exp(-log_p[np.arange(len(z)), t[t != ignore_index]].mean()))
""",
    "apply_temperature, lists": """
def apply_temperature(logits, temperature):
    if temperature < 0:
        raise ValueError("negative")
    rows = []
    for row in logits.tolist():
        best = row.index(max(row))
        cold = [z if i == best else -math.inf for i, z in enumerate(row)]
        rows.append([z / temperature for z in row] if temperature else cold)
    return torch.tensor(rows, dtype=logits.dtype)
""",
    "top_k, lists": """
def top_k(logits, k):
    rows = []
    for row in logits.tolist():
        weakest = sorted(row, reverse=True)[min(k, len(row)) - 1]
        rows.append([z if z >= weakest else -math.inf for z in row])
    return torch.tensor(rows, dtype=logits.dtype)
""",
    "top_p, lists": """
def top_p(logits, p):
    filtered = torch.full_like(logits, -math.inf)
    for i, row in enumerate(logits.double().softmax(-1).tolist()):
        total = 0.0
        for j in sorted(range(len(row)), key=row.__getitem__, reverse=True):
            if total < p or p == 1:
                filtered[i, j] = logits[i, j]
            total += row[j]
    return filtered
""",
    "min_p, lists": """
def min_p(logits, share):
    rows = logits.tolist()
    kept = [[z if math.exp(z - max(row)) >= share else -math.inf for z in row] for row in rows]
    return torch.tensor(kept, dtype=logits.dtype)
""",
    "generate, into a buffer": """
def generate(model, ids, n_new, choose, context=None):
    text = torch.nn.functional.pad(ids, (0, n_new))
    for end in range(ids.shape[1], text.shape[1]):
        first = 0 if context is None else max(0, end - context)
        text[:, end] = choose(model(text[:, first:end])[:, -1], text[:, :end])
    return text
""",
}


@pytest.mark.parametrize("title", RIGHT)
def test_right_answers_are_accepted(title):
    verdict = verdict_on(title.split(",")[0], RIGHT[title])
    assert verdict.state == "right", verdict


WRONG = {
    "perplexity, view: needs_contiguous_memory": """
def perplexity(logits, targets, ignore_index=-100):
    flat = logits.view(-1, logits.shape[-1])
    return math.exp(training.cross_entropy(flat, targets.view(-1), ignore_index))
""",
    "perplexity, view of the targets: needs_contiguous_memory": """
def perplexity(logits, targets, ignore_index=-100):
    flat = logits.reshape(-1, logits.shape[-1])
    return math.exp(training.cross_entropy(flat, targets.view(-1), ignore_index))
""",
    "apply_temperature, the first logit for the best: ": """
def apply_temperature(logits, temperature):
    if temperature < 0:
        raise ValueError("negative")
    if temperature:
        return logits / temperature
    return torch.full_like(logits, -math.inf).scatter(-1, logits.argmax(-1, True), logits)
""",
    "top_k, scatter: drops_ties": """
def top_k(logits, k):
    values, places = logits.topk(min(k, logits.shape[-1]))
    filtered = torch.full_like(logits, -math.inf)
    filtered.scatter_(-1, places, values)
    return filtered
""",
    "top_k, in place by a mask: in_place": """
def top_k(logits, k):
    logits[logits < logits.topk(min(k, logits.shape[-1])).values[:, -1:]] = -math.inf
    return logits
""",
    "top_k, in place by masked_fill_: in_place": """
def top_k(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill_(logits < weakest, -math.inf)
""",
    "min_p, more than the threshold: ": """
def min_p(logits, share):
    p = logits.softmax(-1)
    best = p.amax(-1, keepdim=True)
    return logits.where((p > share * best) | (p == best), -math.inf)
""",
    "generate, chooses from its buffer: chooses_from_the_buffer": """
def generate(model, ids, n_new, choose, context=None):
    text = torch.nn.functional.pad(ids, (0, n_new))
    for end in range(ids.shape[1], text.shape[1]):
        first = 0 if context is None else max(0, end - context)
        text[:, end] = choose(model(text[:, first:end])[:, -1], text)
    return text
""",
    "generate, the model reads the buffer: counts_from_the_front": """
def generate(model, ids, n_new, choose, context=None):
    text = torch.nn.functional.pad(ids, (0, n_new))
    for end in range(ids.shape[1], text.shape[1]):
        if context is None:
            logits = model(text)[:, end - 1]
        else:
            logits = model(text[:, max(0, end - context) : end])[:, -1]
        text[:, end] = choose(logits, text[:, :end])
    return text
""",
    "KVCache, view: ": """
class KVCache:
    def __init__(self, context):
        self.context, self.length = context, 0
        self.key = self.value = torch.empty(0)

    def update(self, key, value):
        if self.length + key.shape[2] > self.context:
            raise ValueError("full")
        heads = [one.view(-1, *one.shape[2:]) for one in (key, value)]
        key, value = (one.view(key.shape) for one in heads)
        if self.length:
            key, value = torch.cat((self.key, key), 2), torch.cat((self.value, value), 2)
        self.key, self.value, self.length = key, value, key.shape[2]
        return key, value

    def select(self, rows):
        self.key, self.value = self.key[rows], self.value[rows]
""",
}


@pytest.mark.parametrize("title", WRONG)
def test_wrong_answers_are_refused(title):
    verdict = verdict_on(title.split(",")[0], WRONG[title])
    assert verdict.state == "wrong"
    assert verdict.mistake == title.split(": ")[1], verdict


def test_headline_and_mistake_speak_of_the_same():
    verdict = verdict_on("top_k", WRONG["top_k, in place by a mask: in_place"])
    assert "changes `logits` in place" in verdict.headline
    assert "write them into the caller's logits" in verdict.says
