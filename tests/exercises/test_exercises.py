"""Every exercise: its check refuses and names each mistake, and accepts whatever is right."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from course_utils import attention, exercises
from course_utils.engine import naming, observing, parts, worker
from course_utils.engine.check import check
from course_utils.engine.naming import recognise
from course_utils.exercises import Case, Exercise, Wrong

ALL = exercises.all_exercises()


def _pairs(of: str) -> list:
    """Every exercise with each of its mistakes or alternatives, named for pytest."""
    return [
        pytest.param(
            exercise, one, id=f"{exercise.name}-{getattr(one, 'name', None) or one.__name__}"
        )
        for exercise in ALL
        for one in getattr(exercise, of)
    ]


each_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda one: one.part)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the process that checks a learner's code: these tensors are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _defined_by(source: str, exercise: Exercise):
    """What a source defines when it is executed beside the exercise's module."""
    namespace = dict(parts.namespace(exercise.part))
    exec(source, namespace)
    return namespace[exercise.name]


# --- right ---------------------------------------------------------------------------------------


@each_exercise
def test_reference_is_right(exercise):
    verdict = check(exercise, parts.reference(exercise.part))
    assert verdict.state == "right", verdict


@pytest.mark.parametrize(("exercise", "alternative"), _pairs("alternatives"))
def test_alternative_is_accepted(exercise, alternative):
    verdict = check(exercise, alternative)
    assert verdict.state == "right", verdict


@each_exercise
def test_solution_can_be_pasted(exercise):
    pasted = _defined_by(parts.reference_source(exercise.part), exercise)
    assert check(exercise, pasted).state == "right"


# --- wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "mistake"), _pairs("mistakes"))
def test_mistake_is_refused_and_named(exercise, mistake):
    verdict = check(exercise, mistake.part)
    assert (verdict.state, verdict.mistake) == ("wrong", mistake.name), verdict
    assert verdict.says == mistake.says
    assert verdict.case
    assert verdict.headline


@pytest.mark.parametrize(("exercise", "mistake"), _pairs("mistakes"))
def test_no_two_mistakes_behave_the_same(exercise, mistake):
    others = tuple(one for one in exercise.mistakes if one is not mistake)
    same = recognise(replace(exercise, mistakes=others), mistake.part, exercise.make_cases())
    assert same is None, f"{mistake.name} behaves like {same.name}"


@each_exercise
def test_blank_is_unfinished(exercise):
    assert check(exercise, _defined_by(parts.blank(exercise.part), exercise)).state == "unfinished"


@each_exercise
def test_other_parameters_are_refused(exercise):
    if isinstance(parts.reference(exercise.part), type):
        other = type("Other", (nn.Module,), {"__init__": lambda self, width: None})
    else:
        other = lambda some, other, names, *, needed: None  # noqa: E731
    verdict = check(exercise, other)
    assert verdict.state == "wrong"
    assert " takes (" in verdict.headline


@each_exercise
def test_nothing_returned_is_refused(exercise):
    blank = parts.blank(exercise.part)
    silent = _defined_by(blank.replace('raise NotImplementedError("your turn")', "pass"), exercise)
    verdict = check(exercise, silent)
    assert verdict.state == "wrong"
    assert "return" in verdict.headline


# --- what an exercise must have ------------------------------------------------------------------


@each_exercise
def test_there_is_enough_of_everything(exercise):
    assert len(exercise.hints) >= 3
    assert len(exercise.mistakes) >= 3
    assert len(exercise.alternatives) >= 2
    assert len(exercise.make_cases()) >= 3


@each_exercise
def test_names_and_titles_are_unique(exercise):
    for names in (
        [mistake.name for mistake in exercise.mistakes],
        [case.title for case in exercise.make_cases()],
        [alternative.__name__ for alternative in exercise.alternatives],
        exercise.hints,
    ):
        assert len(set(names)) == len(names)


@each_exercise
def test_first_case_can_be_read(exercise):
    """It is the first that is shown with its numbers."""
    for value in exercise.make_cases()[0].arguments.values():
        if isinstance(value, torch.Tensor):
            assert value.numel() <= 40


@each_exercise
def test_what_is_said_are_sentences(exercise):
    for text in (*(mistake.says for mistake in exercise.mistakes), *exercise.hints):
        assert text[0].isupper() or text[0] in "`[", text
        assert text[-1] in ".?!…`", text
        assert text.count("`") % 2 == 0, text
        assert len(text) <= 320, text
        assert "  " not in text, text
    for mistake in exercise.mistakes:
        assert re.fullmatch(r"[a-z][a-z0-9_]+", mistake.name)


@each_exercise
def test_cases_are_the_same_every_time(exercise):
    for first, second in zip(exercise.make_cases(), exercise.make_cases(), strict=True):
        assert first.title == second.title
        assert naming._same_effects(observing.expected(first), observing.expected(second))


@each_exercise
def test_notebook_and_module_exist(exercise):
    assert re.fullmatch(r"\d\d", exercises.notebook_of(exercise.part))
    assert exercises.find(exercise.part) is exercise
    assert hasattr(parts.references()[exercise.part], "__doc__")


def test_every_part_is_found_by_name_only():
    assert len({exercise.part for exercise in ALL}) == len(ALL)
    with pytest.raises(KeyError, match=r"The parts are: .*attention\.softmax"):
        exercises.find("attention.sofmax")


# --- single wrong versions that only a part of the check can see ---------------------------------


def _softmax_with(body: str):
    return _defined_by(
        f"def softmax(scores, dim=-1):\n    {body}\n", exercises.find("attention.softmax")
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return torch.softmax(scores.detach(), dim)", "no gradient flows back to `scores`"),
        ("return torch.softmax(scores.double(), dim)", "dtype torch.float32"),
        ("return torch.softmax(scores, dim).tolist()", "should be a tensor, yours is a list"),
        ("return torch.softmax(scores, dim)[None]", "should have the shape [3]"),
        ("return scores.copy()", "stopped with AttributeError"),
        ("raise SystemExit", "asks Python to exit"),
        ("e = torch.exp(scores - 3.0); return e.div_(e.sum(dim, keepdim=True))", "NaN|gradient"),
    ],
)
def test_headline_says_what_is_wrong(body, said):
    verdict = check(exercises.find("attention.softmax"), _softmax_with(body))
    assert verdict.state == "wrong"
    assert re.search(said.replace("[3]", r"\[3\]"), verdict.headline), verdict.headline


def test_a_cached_mask_is_seen():
    class Cached(attention.MultiHeadAttention):
        kept = None

        def forward(self, x, memory=None, mask=None, bias=None):
            memory = x if memory is None else memory
            if self.kept is None:
                self.kept = torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool)
            mask = self.kept if mask is None else mask
            return super().forward(x, memory, mask, bias)

    verdict = check(exercises.find("attention.MultiHeadAttention"), Cached)
    assert (verdict.state, verdict.case) == ("wrong", "a second call of the same layer")


def _own_heads(self, x, memory=None, mask=None, bias=None):
    """Right numbers, but the weights of one head at a time."""
    memory = x if memory is None else memory
    projected = attention.project_qkv(x, memory, self.w_q, self.w_k, self.w_v)
    query, key, value = (attention.split_heads(one, self.n_heads) for one in projected)
    added = x.new_zeros(x.shape[0], self.n_heads, x.shape[1], memory.shape[1])
    added = added if bias is None else added + bias
    added = added if mask is None else added.masked_fill(~mask, -torch.inf)
    heads = [
        attention.scaled_dot_product_attention(
            query[:, head], key[:, head], value[:, head], bias=added[:, head]
        )
        for head in range(self.n_heads)
    ]
    return self.w_o(torch.cat(heads, -1))


def test_heads_one_at_a_time_cannot_be_seen():
    layer = type("Layer", (attention.MultiHeadAttention,), {"forward": _own_heads})
    verdict = check(exercises.find("attention.MultiHeadAttention"), layer)
    assert verdict.state == "wrong"
    assert "no view could show your weights" in verdict.headline


def test_other_weights_are_refused_with_a_sentence():
    class Renamed(attention.MultiHeadAttention):
        def __init__(self, d_model, n_heads):
            super().__init__(d_model, n_heads)
            self.out = self.w_o
            del self.w_o

    verdict = check(exercises.find("attention.MultiHeadAttention"), Renamed)
    assert verdict.headline.startswith("The weight `w_o.weight` of your layer")
    assert "stopped with" not in verdict.headline


def test_not_a_module_is_refused_with_a_sentence():
    forward = parts.reference("attention.MultiHeadAttention").forward
    plain = type("Plain", (), {"__init__": lambda self, d_model, n_heads: None, "forward": forward})
    verdict = check(exercises.find("attention.MultiHeadAttention"), plain)
    assert "no `nn.Module`" in verdict.headline


# --- spelled as a learner might ------------------------------------------------------------------


def _answer(part: str, body: str) -> str:
    """The blank of a part with `body` written into it. `;` begins a new line."""
    blank = parts.blank(part)
    gap = re.search(r'^( *)raise NotImplementedError\("your turn"\)$', blank, re.MULTILINE)
    lines = [gap[1] + line.strip() for line in body.split(";")]
    return blank.replace(gap[0], "\n".join(lines))


SCORES = "s = attention_scores(query, key) * score_scale(query.shape[-1])"
BIAS = "s = s if bias is None else s + bias"
MASK = "s = s if mask is None else s.masked_fill(~mask, -math.inf)"
PROJECTED = (
    "m = x if memory is None else memory; q, k, v = project_qkv(x, m, self.w_q, self.w_k, self.w_v)"
)
HEADS = f"{PROJECTED}; q, k, v = (split_heads(t, self.n_heads) for t in (q, k, v))"

SPELLINGS = [
    (
        "softmax",
        "",
        "m = scores.max(dim, keepdim=True)[0]; e = (scores - m).exp(); "
        "return e * (1 / e.sum(dim, keepdim=True))",
    ),
    ("softmax", "overflow", "return scores.exp() / scores.exp().sum(dim, True)"),
    (
        "softmax",
        "forgot_keepdim",
        "e = torch.exp(scores - scores.max(dim).values); return e / e.sum(dim)",
    ),
    ("attention_scores", "", "return torch.einsum('...qd,...kd->...qk', query, key)"),
    ("attention_scores", "elementwise_star", "return torch.mul(query, key)"),
    ("attention_scores", "transpose_1_2", "return torch.matmul(query, key.transpose(2, 1))"),
    ("split_heads", "", "b, t, d = x.shape; return x.view(b, t, n_heads, -1).transpose(1, 2)"),
    (
        "split_heads",
        "reshape_without_transpose",
        "b, t, d = x.shape; return x.reshape(b, n_heads, t, -1)",
    ),
    (
        "merge_heads",
        "view_after_transpose",
        "b, h, t, d = x.shape; return x.permute(0, 2, 1, 3).view(b, t, -1)",
    ),
    ("score_scale", "", "return math.sqrt(1 / (d_head * var_q * var_k))"),
    ("score_scale", "forgot_variances", "return d_head**-0.5"),
    ("attention_weights", "", f"{SCORES}; {MASK}; {BIAS}; return softmax(s)"),
    (
        "attention_weights",
        "hides_with_a_finite_number",
        f"{SCORES}; {BIAS}; "
        "s = s if mask is None else s.masked_fill(mask == 0, -1e4); "
        "return torch.softmax(s, -1)",
    ),
    (
        "attention_weights",
        "mask_inverted",
        f"{SCORES}; {BIAS}; "
        "s = s if mask is None else s.masked_fill(mask, -1e9); "
        "return softmax(s)",
    ),
    (
        "attention_weights",
        "mask_multiplied_into_scores",
        f"{SCORES}; {BIAS}; s = s if mask is None else s.masked_fill(~mask, 1e-9); "
        "return softmax(s)",
    ),
    (
        "attention_weights",
        "mask_ignored",
        f"{SCORES}; {BIAS}; mask is None or s.masked_fill(~mask, -math.inf); return softmax(s)",
    ),
    (
        "attention_weights",
        "bias_before_scale",
        "s = attention_scores(query, key); "
        f"{BIAS}; s = s * score_scale(query.shape[-1]); {MASK}; return softmax(s)",
    ),
    (
        "attention_weights",
        "mask_after_softmax",
        f"{SCORES}; {BIAS}; w = softmax(s); return w if mask is None else w.masked_fill(~mask, 0)",
    ),
    (
        "scaled_dot_product_attention",
        "nothing_passed_on",
        "return mix_values(attention_weights(query, key), value)",
    ),
    (
        "scaled_dot_product_attention",
        "returns_weights_too",
        "w = attention_weights(query, key, mask, bias); return mix_values(w, value), w",
    ),
    (
        "MultiHeadAttention",
        "",
        f"{HEADS}; w = attention_weights(q, k, mask, bias); "
        "return self.w_o(merge_heads(mix_values(w, v)))",
    ),
    (
        "MultiHeadAttention",
        "heads_not_split",
        f"{PROJECTED}; return self.w_o(scaled_dot_product_attention(q, k, v, mask, bias))",
    ),
    (
        "MultiHeadAttention",
        "nothing_passed_on",
        f"{HEADS}; return self.w_o(merge_heads(scaled_dot_product_attention(q, k, v)))",
    ),
    (
        "MultiHeadAttention",
        "merged_without_transpose",
        f"{HEADS}; "
        "return self.w_o(scaled_dot_product_attention(q, k, v, mask, bias).reshape(x.shape))",
    ),
]


@pytest.mark.parametrize(("name", "mistake", "body"), SPELLINGS)
def test_other_spellings(name, mistake, body):
    part = f"attention.{name}"
    verdict = worker.examine(part, _answer(part, body))
    assert (verdict.state, verdict.mistake) == ("wrong" if mistake else "right", mistake), verdict


def test_a_small_number_does_not_hide():
    """Where all visible scores are low, a masked score of -100 wins."""
    hidden = "s = s if mask is None else s.masked_fill(~mask, -100)"
    part = "attention.attention_weights"
    verdict = worker.examine(part, _answer(part, f"{SCORES}; {hidden}; {BIAS}; return softmax(s)"))
    assert verdict.state == "wrong"


# --- the engine's comparison, on an exercise made for it -----------------------------------------


def _exercise_of(part, case: Case) -> Exercise:
    return replace(
        exercises.find("attention.softmax"), make_cases=lambda: [case], mistakes=(), properties=()
    )


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5).double().numpy()[()]])
def test_numpy_floats_are_floats(value):
    case = Case("half", {}, lambda: 0.5, use=lambda part: value)
    softmax = parts.reference("attention.softmax")
    assert check(_exercise_of(softmax, case), softmax).state == "right"


@pytest.mark.parametrize(("wanted", "given"), [(1, True), (True, 1), (1.0, 1), ((1,), [1])])
def test_types_are_not_mixed_up(wanted, given):
    case = Case("types", {}, lambda: wanted, use=lambda part: given)
    softmax = parts.reference("attention.softmax")
    assert "should be a" in check(_exercise_of(softmax, case), softmax).headline


def test_what_a_case_says_itself_is_the_headline():
    def use(part):
        raise Wrong("This is a sentence.")

    case = Case("says", {}, lambda: 1, use=use)
    softmax = parts.reference("attention.softmax")
    assert check(_exercise_of(softmax, case), softmax).headline == "This is a sentence."
