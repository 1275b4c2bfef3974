"""Why an answer is wrong: each kind of change, each relation, and only what is sure."""

import ast
import os
import textwrap
import threading

import pytest
import torch

from course_utils import exercises
from course_utils.engine import parts, worker
from course_utils.engine.comparing import error_sentence
from course_utils.engine.explaining import edits
from course_utils.engine.explaining.accidents import accidents
from course_utils.engine.explaining.amends import all_alike, amends, with_names
from course_utils.engine.explaining.explain import explain, only_computes
from course_utils.engine.explaining.leaving import leaving
from course_utils.engine.explaining.parting import lines_as_ours, parting
from course_utils.engine.explaining.recording import Recording, recorded
from course_utils.engine.explaining.relations import relation
from course_utils.engine.explaining.repair import (
    Candidate,
    _best,
    _lucky,
    _own_changes,
    candidates,
    repair,
    unused_names,
)
from course_utils.engine.explaining.trial import Trial
from course_utils.engine.explaining.which_cases import points_missed, which_cases
from course_utils.engine.naming import recognise
from course_utils.engine.verdict import Verdict
from course_utils.exercises import Case


def told(part: str, body: str) -> Verdict:
    """The verdict on a body of a part, explained as in the worker."""
    source = blank_with(part, body)
    verdict = worker.examine(part, source)
    assert verdict.state == "wrong", verdict
    return verdict if verdict.says else worker.explained(part, source, verdict)


def blank_with(part: str, body: str) -> str:
    """The blank of a part with this body."""
    text = parts.blank(part).replace('raise NotImplementedError("your turn")', "…")
    line = next(one for one in text.split("\n") if one.strip() == "…")
    indent = line[: len(line) - len(line.lstrip())]
    return text.replace(line, textwrap.indent(textwrap.dedent(body).strip("\n"), indent))


# --- the catalogue of edits ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x.sum(-1)", "x.sum(-1, keepdim=True)"),
        ("x.mean()", "x.mean(dim=-1)"),
        ("x.mean()", "x.mean(dim=-1, keepdim=True)"),
        ("x.argmax()", "x.argmax(dim=-1)"),
        ("x.squeeze()", "x.squeeze(dim=1)"),
        ("torch.any(x)", "torch.any(x, dim=-1, keepdim=True)"),
        ("x.var(-1)", "x.var(-1, unbiased=False)"),
        ("torch.softmax(x)", "torch.softmax(x, dim=-1)"),
        ("x.exp_()", "x.exp()"),
        ("x.mean(0)", "x.sum(0)"),
        ("torch.sin(x)", "torch.cos(x)"),
        ("torch.stack(x)", "torch.cat(x)"),
        ("a + b * c", "(a + b) * c"),
        ("(a + b) * c", "a + b * c"),
        ("(x.sqrt()) + eps", "(x + eps).sqrt()"),
        ("[a, b]", "(a, b)"),
        ("x", "x.mT"),
        ("x", "x.clone()"),
        ("x", "x.sqrt()"),
        ("x", "x.unsqueeze(-1)"),
        ("x", "-x"),
        ("mask", "~mask"),
        ("x", "1 - x"),
        ("n", "n + 1"),
        ("n", "n - 1"),
        ("x", "tuple(x)"),
        ("0", "-2"),
        ("a or b", "a if a is not None else b"),
        ("[f(h) for h in x]", "[f(h) for h in x.unbind(1)]"),
        ("x.clamp(min=eps)", "x + eps"),
        ("torch.clamp(x, eps)", "x + eps"),
        ("torch.inner(a, b)", "a @ b.mT"),
        ("torch.einsum('ij,jk->ik', a, b)", "torch.einsum('ij,kj->ik', a, b)"),
        ("torch.einsum('ij,jk->ik', a, b)", "torch.einsum('ij,jk->ki', a, b)"),
        ("torch.einsum('...ij,jk->...ik', a, b)", "torch.einsum('...ij,jk->...k', a, b)"),
        ("nn.init.trunc_normal_(w, std=s)", "nn.init.normal_(w, std=s)"),
        ("nn.init.xavier_uniform_(w)", "nn.init.xavier_normal_(w)"),
        ("torch.ge(a, b)", "torch.gt(a, b)"),
        ("torch.maximum(a, b)", "torch.minimum(a, b)"),
        ("x.roll(1)", "x.flip(1)"),
        ("x.cumprod(-1)", "x.cumsum(-1)"),
    ],
)
def test_what_was_left_out_is_put_back(before: str, after: str) -> None:
    node = ast.parse(before, mode="eval").body
    assert ast.unparse(ast.parse(after)) in {ast.unparse(one) for one in amends(node)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a < b", "a > b"),
        ("a + b", "a ** b"),
        ("a - b", "a / b"),
    ],
)
def test_operators_are_taken_for_any_other(before: str, after: str) -> None:
    tree = ast.parse(f"def f():\n    return {before}")
    found = set()
    for place in edits.places(tree.body[0]):  # type: ignore[arg-type]
        for new in (*accidents(place.get(), {}), *amends(place.get())):
            old = place.get()
            place.put(new)
            found.add(ast.unparse(tree.body[0].body[0]))  # type: ignore[attr-defined]
            place.put(old)
    assert f"return {after}" in found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x += y", "x = x + y"),
        ("x.masked_fill(mask, 0)", "x = x.masked_fill(mask, 0)"),
        ("x + y", "return x + y"),
        ("y = x + 1", "return x + 1"),
        ("a = b = f(x)", "a, b = (f(x), f(x))"),
        ("a, b = f(x)", "b, a = f(x)"),
        ("n[i, j] += 1", "n.index_put_((i, j), n.new_zeros(()) + 1, accumulate=True)"),
    ],
)
def test_statements_are_made_anew(before: str, after: str) -> None:
    node = ast.parse(before).body[0]
    changed = {ast.unparse(ast.fix_missing_locations(one)) for one in amends(node)}
    assert after in changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("with torch.no_grad():\n    y = x", "if True:\n    y = x"),
        ("break", "continue"),
        ("continue", "break"),
        ("if n:\n    n = 1", "if n is not None:\n    n = 1"),
        ("for h in x:\n    f(h)", "for h in x.unbind(1):\n    f(h)"),
        (
            "for h in x:\n    f(h)\n    g(h)",
            "if True:\n    for h in x:\n        f(h)\n    for h in x:\n        g(h)",
        ),
        (
            "for h in x:\n    n = 0\n    n += h",
            "if True:\n    n = 0\n    for h in x:\n        n += h",
        ),
    ],
)
def test_blocks_and_jumps_are_taken_back(before: str, after: str) -> None:
    node = ast.parse(before).body[0]
    assert after in {ast.unparse(ast.fix_missing_locations(one)) for one in amends(node)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("n", "n * x"),
        ("64", "x"),
        ("torch.zeros(3)", "torch.zeros(3, dtype=x.dtype)"),
        ("out", "out[::-1]"),
    ],
)
def test_factors_and_dtypes_are_put_back(before: str, after: str) -> None:
    node = ast.parse(before, mode="eval").body
    found = {ast.unparse(one) for one in (*with_names(node, ["x"]), *amends(node))}
    assert after in found


def test_calls_of_one_function_are_changed_alike() -> None:
    calls = [ast.parse(f"{one}.view(-1)", mode="eval").body for one in "ab"]
    changed = [[ast.unparse(one) for one in new] for new in all_alike(calls)]  # type: ignore[arg-type]
    assert ["a.reshape(-1)", "b.reshape(-1)"] in changed
    assert ["a", "b"] in changed


def changed_bodies(body: str) -> set[str]:
    """The statements of a function, with each change that a repair tries."""
    tree = ast.parse(f"def f(a, b, t):\n{textwrap.indent(body, '    ')}")
    trial = Trial(
        exercises.find("attention.softmax"), blank_with("attention.softmax", "return 1"), 1
    )
    texts = set()
    for one in candidates(trial, tree, _own_changes):
        old = [place.get() for place, _ in one.changes]
        for place, new in one.changes:
            place.put(new)
        body = ast.fix_missing_locations(tree).body[0].body  # type: ignore[attr-defined]
        texts.add("\n".join(map(ast.unparse, body)))
        for (place, _), node in zip(one.changes, old, strict=True):
            place.put(node)
    return texts


def test_operators_beside_one_number_are_changed_alike() -> None:
    found = changed_bodies("return (1 - a * t) / (1 - b * t)")
    assert "return (1 - a ** t) / (1 - b ** t)" in found


def test_a_statement_and_the_next_change_places() -> None:
    assert "a = a - t\nb = a * a\nreturn b" in changed_bodies("b = a * a\na = a - t\nreturn b")
    once = "n = 0\nfor x in a:\n    n = n + x\n    b.append(n)\nreturn b"
    anew = "pass\nfor x in a:\n    n = 0\n    n = n + x\n    b.append(n)\nreturn b"
    assert anew in changed_bodies(once)


def test_slices_start_and_end_elsewhere() -> None:
    node = ast.parse("x[:n]", mode="eval").body.slice  # type: ignore[attr-defined]
    slices = {ast.unparse(one) for one in amends(node)}
    assert {":", ":-n", "n:"} <= slices


# --- a change of the learner's own code ----------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "body", "expression"),
    [
        (
            "attention.softmax",
            """
            shifted = scores - scores.amax(dim, keepdim=True)
            powers = torch.exp(shifted) ** 1.5
            return powers / powers.sum(dim, keepdim=True)
            """,
            "torch.exp(shifted) ** 1.5",
        ),
        (
            "encoder.layer_norm",
            """
            centred = x - x.mean(-1, keepdim=True)
            variance = (centred**2).mean(-1, keepdim=True)
            return centred / torch.sqrt(variance + 3 * eps) * gain + bias
            """,
            "3 * eps",
        ),
        (
            "encoder.layer_norm",
            """
            x -= x.mean(-1, keepdim=True)
            x /= torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
            return x * gain + bias
            """,
            "x -= x.mean(-1, keepdim=True)",
        ),
        (
            "decoder.causal_mask",
            """
            n_key = n_query if n_key is None else n_key
            mask = torch.ones(n_query, n_key, dtype=torch.bool)
            return torch.tril(mask, diagonal=(n_key - n_query) * 2)
            """,
            "(n_key - n_query) * 2",
        ),
    ],
)
def test_the_place_of_a_fault_is_found(part: str, body: str, expression: str) -> None:
    verdict = told(part, body)
    assert verdict.way == "change", verdict
    assert verdict.expression == expression
    assert expression in verdict.lines[0][1]
    assert f"line {verdict.line}" in verdict.says


def test_a_line_is_not_blamed_for_what_comes_after_it() -> None:
    """To return early is right here, and says nothing against the line that would return."""
    verdict = told("projection.embed", "rows = table[ids]\nreturn rows * 1.7")
    assert verdict.expression == "rows * 1.7"


def test_a_second_fault_is_said_only_where_the_first_shows() -> None:
    """Without the branch that is wrong for negative steps, it is a mistake that nobody made."""
    verdict = told(
        "positions.shift_matrix",
        """
        one = torch.eye(d_model)
        for _ in range(k):
            one = one @ shift_matrix(1, d_model, base) if k != 1 else one
        return one
        """,
    )
    assert verdict.way != "both", verdict


def test_a_repair_leaves_no_name_unused() -> None:
    tree = ast.parse("def f(x):\n    y = x + 1\n    return x\n")
    assert unused_names(tree) == {"y"}


def test_nothing_is_said_of_code_that_is_wholly_another() -> None:
    verdict = told("attention.softmax", "return torch.cos(3 * scores).sort(dim).values.cumsum(dim)")
    assert verdict.way in ("", "relation"), verdict


# --- where numbers part --------------------------------------------------------------------------


def test_the_first_value_that_is_not_ours() -> None:
    source = blank_with(
        "encoder.layer_norm",
        """
        centred = x - x.mean(-1, keepdim=True)
        odd = torch.sin(centred) + torch.cos(centred) ** 3
        variance = (centred**2).mean(-1, keepdim=True)
        return odd / torch.sqrt(variance + eps) * gain + bias
        """,
    )
    trial = Trial(exercises.find("encoder.layer_norm"), source, 5.0)
    found = parting(trial)
    assert found is not None
    assert found.expression in source.split("\n")[found.line - 1]
    assert "odd =" in source.split("\n")[found.line - 1]


def test_what_a_strange_value_is_made_of_is_named_with_its_line() -> None:
    body = """
    centred = x - x.mean(-1, keepdim=True)
    wide = torch.cat((centred.sin(), centred.cos()), -1)
    odd = wide[..., : x.shape[-1]] * wide[..., x.shape[-1] :]
    variance = (centred**2).mean(-1, keepdim=True)
    return odd / torch.sqrt(variance + eps) * gain + bias
    """
    source = blank_with("encoder.layer_norm", body)
    found = parting(Trial(exercises.find("encoder.layer_norm"), source, 5.0))
    assert found is not None
    assert found.made_of == (("wide", found.line - 1),)


def test_the_result_itself_is_no_place_where_numbers_part() -> None:
    body = "return (torch.cos(x * gain) + 1).to(x.dtype)"
    source = blank_with("encoder.layer_norm", body)
    assert parting(Trial(exercises.find("encoder.layer_norm"), source, 5.0)) is None


def test_values_are_recorded_without_changing_them() -> None:
    recording = Recording()
    tree = recorded(ast.parse("def f(x):\n    y = x * 2\n    return y.sum() + 1\n"), recording)
    names = {"_note_": recording.note}
    exec(compile(tree, "recorded", "exec"), names)
    assert names["f"](torch.tensor([1.0, 2.0])) == 7.0  # type: ignore[operator]
    assert [ast.unparse(recording.nodes[one]) for one in recording.order] == [
        "x * 2",
        "y.sum()",
        "y.sum() + 1",
    ]


# --- relations -----------------------------------------------------------------------------------

MATRIX = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.5, 32.0], [5.0, 7.0, 11.0]])
CUBE = torch.arange(24.0).reshape(2, 3, 4) ** 1.5 + 1


@pytest.mark.parametrize(
    ("wanted", "seen", "said"),
    [
        (MATRIX, MATRIX.T, "axes 0 and 1 in each other's place"),
        (CUBE, CUBE.permute(1, 2, 0), "axes in the order"),
        (CUBE, CUBE.reshape(6, 4), "only the shape is not"),
        (CUBE, CUBE.flatten().flip(0).reshape(6, 4), "in other places, and the shape"),
        (MATRIX, -MATRIX, "wrong sign"),
        (MATRIX, 2 * MATRIX, "times 2."),
        (MATRIX, MATRIX / 2, "times 1/2."),
        (MATRIX, MATRIX + 3, "plus 3"),
        (MATRIX, MATRIX.flip(0), "in reverse along axis 0"),
        (MATRIX, MATRIX.roll(1, 1), "one place later along axis 1"),
        (MATRIX, MATRIX.roll(-1, 1), "one place earlier along axis 1"),
        (MATRIX, torch.cat((MATRIX[:1], MATRIX[1:] ** 2)), "Only index 0 along axis 0 is right"),
        (MATRIX, torch.cat((MATRIX[:2], MATRIX[2:] ** 2)), "Only index 2 along axis 0 is wrong"),
    ],
)
def test_a_relation_is_said(wanted: torch.Tensor, seen: torch.Tensor, said: str) -> None:
    assert said in relation(wanted, seen, {})


def test_a_factor_has_the_name_of_a_size() -> None:
    arguments = {"query": torch.zeros(2, 16)}
    assert "1/√16, the size of axis 1 of `query`" in relation(MATRIX, MATRIX / 4, arguments)


def test_where_numbers_leave_the_computation() -> None:
    verdict = told(
        "encoder.feed_forward",
        """
        up, down = nn.Linear(*w_up.T.shape), nn.Linear(*w_down.T.shape)
        up.weight, up.bias = nn.Parameter(w_up), nn.Parameter(b_up)
        down.weight, down.bias = nn.Parameter(w_down), nn.Parameter(b_down)
        return down(gelu(up(x)))
        """,
    )
    assert (verdict.way, verdict.expression) == ("entry", "nn.Parameter(w_up)"), verdict
    assert "no gradient comes back" in verdict.says


def test_a_number_that_no_gradient_should_reach_may_leave() -> None:
    """The count leaves by `.item()`, as it may; what cuts is the `.detach()` behind it."""
    source = blank_with(
        "training.cross_entropy",
        """
        counted = targets != ignore_index
        count = counted.sum().item()
        picked = logits[counted].gather(-1, targets[counted][:, None])[:, 0]
        return (logits[counted].detach().logsumexp(-1) - picked).sum() / count
        """,
    )
    trial = Trial(exercises.find("training.cross_entropy"), source, 5.0)
    found = leaving(
        trial, "The values are right, but the gradient with respect to `logits` is not."
    )
    assert found is not None and ast.unparse(found) == "logits[counted].detach()"


def test_a_factor_that_may_be_the_size_of_two_axes_names_none() -> None:
    arguments = {"query": torch.zeros(16, 16)}
    assert relation(MATRIX, MATRIX / 4, arguments).endswith("times 1/√16.")


def test_a_first_row_that_cannot_be_wrong_says_nothing() -> None:
    wanted = torch.cat((torch.zeros(1, 3), MATRIX[1:]))
    assert relation(wanted, torch.cat((wanted[:1], wanted[1:] ** 2)), {}) == ""


def test_wrong_are_only_the_hidden_ones() -> None:
    mask = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    seen = torch.where(mask, MATRIX, 99.0)
    assert "where `mask` is False" in relation(MATRIX, seen, {"mask": mask})
    seen = torch.where(mask, 99.0, MATRIX)
    assert "where `mask` is True" in relation(MATRIX, seen, {"mask": mask})


def test_of_what_could_be_an_accident_nothing_is_said() -> None:
    assert relation(torch.ones(3), torch.full((3,), 2.0), {}) == ""
    assert relation(MATRIX, torch.randn(3, 3), {}) == ""
    assert relation("text", MATRIX, {}) == ""


def test_random_results_are_called_random() -> None:
    verdict = told("attention.softmax", "return torch.softmax(scores, dim) + torch.rand(()) / 9")
    assert "random" in verdict.relation


def test_a_verdict_may_rest_on_random_numbers() -> None:
    body = """
    tries = [10.0**power * torch.randn(2, d) for power in range(4)]
    return any(torch.allclose(f(x + y), f(x) + f(y), rtol=1e-3, atol=1e-3) for x, y in tries)
    """
    assert "random" not in told("projection.is_linear", body).relation


def test_what_is_kept_from_call_to_call_is_said() -> None:
    verdict = told(
        "decoder.causal_mask",
        """
        kept = globals().setdefault("kept", {})
        n_key = n_query if n_key is None else n_key
        if n_query not in kept:
            kept[n_query] = torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query)
        return kept[n_query]
        """,
    )
    assert "from one call to the next" in verdict.relation or verdict.mistake, verdict


def test_what_is_kept_is_said_before_what_the_case_asks_for() -> None:
    verdict = told(
        "tokenization.bpe_encode",
        """
        kept = globals().setdefault("kept", {})
        if word not in kept:
            kept[word] = list(word)
            for left, right in merges:
                place = 0
                while place < len(kept[word]) - 1:
                    if kept[word][place : place + 2] == [left, right]:
                        kept[word][place : place + 2] = [left + right]
                    place += 1
        return list(kept[word])
        """,
    )
    assert "from one call to the next" in verdict.says, verdict
    assert verdict.point == ""


def test_of_a_right_result_no_relation_is_said() -> None:
    there_and_back = torch.tensor([[0.3, 1.7, 0.3]])
    assert relation(there_and_back, there_and_back.clone(), {}) == ""


def test_an_axis_of_one_hides_the_order() -> None:
    wanted = CUBE[:1]
    assert "only the shape" not in relation(wanted, wanted.reshape(3, 1, 4), {})


# --- what is no evidence -------------------------------------------------------------------------


def test_nan_alone_names_a_mistake_only_where_it_is_nan_for_other_numbers_too() -> None:
    """Where exp overflows, large numbers are NaN; here it is the largest of those far apart."""
    exercise = exercises.find("attention.softmax")
    overflow = next(one for one in exercise.mistakes if one.name == "overflow")

    def nan_far_apart(scores: torch.Tensor) -> torch.Tensor:
        far = scores.amax(-1) - scores.amin(-1) > 50
        return torch.where(far & (scores == scores.amax(-1)), torch.nan, torch.softmax(scores, -1))

    case = Case("large", {"scores": torch.tensor([100.0, 0.0])}, lambda x: torch.softmax(x, -1))
    assert recognise(exercise, overflow.part, [case]) is overflow
    assert recognise(exercise, nan_far_apart, [case]) is None


def test_a_change_that_takes_something_right_away_shows_no_second_fault() -> None:
    verdict = told(
        "encoder.layer_norm",
        """
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred**2).mean(-1, keepdim=True).clamp(min=eps)
        return centred / torch.sqrt(variance) * gain + bias
        """,
    )
    assert verdict.way != "both", verdict


def test_a_mistake_that_is_not_made_everywhere_is_named_with_care() -> None:
    verdict = told(
        "sampling.read_on",
        """
        x = model.embed(ids)[:, start:]
        mask = decoder.causal_mask(ids.shape[1], ids.shape[1]) if start == 0 else None
        for block in model.blocks:
            x = block(x, mask)
        return model.head(model.norm(x))
        """,
    )
    assert (verdict.way, verdict.mistake) == ("in part", "no_mask"), verdict
    assert verdict.says.startswith("Where your code goes wrong")


def test_a_number_in_a_loops_list_is_the_last_thing_to_be_blamed() -> None:
    source = blank_with(
        "projection.is_linear",
        """
        for scale in (1.0, 100.0):
            x, y = scale * torch.randn(d), scale * torch.randn(d)
            if not torch.allclose(f(x + y), f(x) + f(y), rtol=1e-3, atol=1e-3):
                return True
        return True
        """,
    )
    trial = Trial(exercises.find("projection.is_linear"), source, 1)
    lucky = _lucky(trial, trial.tree)
    loop = next(node for node in ast.walk(trial.tree) if isinstance(node, ast.For))
    assert isinstance(loop.iter, ast.Tuple)
    assert lucky(_change(edits.Place(loop.iter, "elts", 0, loop), ast.Constant(2.0)))
    inside = loop.body[-1]
    assert isinstance(inside, ast.If)
    assert lucky(_change(edits.Place(inside.body[0], "value", None, loop), ast.Constant(False)))
    assert not lucky(_change(edits.Place(inside, "test", None, loop), ast.Name("x")))


def _change(place: edits.Place, new: ast.AST) -> Candidate:
    return Candidate(1, ((place, new),), 1, "")


def test_of_two_changes_the_one_where_the_numbers_are_not_ours() -> None:
    source = blank_with(
        "encoder.layer_norm",
        """
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred**2).mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(variance + eps) * 3
        return scaled * gain + bias
        """,
    )
    trial = Trial(exercises.find("encoder.layer_norm"), source, 1)
    as_ours = lines_as_ours(trial)
    first = source.split("\n").index(next(one for one in source.split("\n") if "centred =" in one))
    assert first + 1 in as_ours
    assert first + 3 not in as_ours
    changes = [Candidate(1, (), line, "") for line in (first + 1, first + 3)]
    assert _best(trial, changes).line == first + 3


# --- which calls are right -----------------------------------------------------------------------


def _called(title: str, **arguments: object) -> Case:
    return Case(title, arguments, lambda: None)


def test_what_the_wrong_calls_have_in_common_is_said() -> None:
    cases = [_called("a", n=1, mask=None), _called("b", n=2, mask=None)]
    masked = [_called("c", n=1, mask=MATRIX > 2), _called("d", n=2, mask=MATRIX > 3)]
    said = which_cases([*cases, *masked], [True, True, False, False])
    assert said == "2 of 4 calls are right. It goes wrong just where `mask` is None."


def test_few_wrong_calls_are_named() -> None:
    cases = [_called(title, n=1) for title in "abc"]
    assert which_cases(cases, [False, True, False]) == "2 of 3 calls are right. Wrong: “b”."
    assert which_cases(cases, [True, True, True]) == ""


def test_what_the_wrong_calls_ask_beyond_the_plain_ones_is_said() -> None:
    plain, third = _called("plain"), Case("c", {}, len, point="May be long.")
    front, both = (Case(title, {}, len, point="Padding may stand in front.") for title in "ab")
    said = points_missed([plain, front, both], [False, True, True])
    assert said == "1 of 3 calls is right. Wrong: “a”; “b”. Padding may stand in front."
    assert "May be long." in points_missed([plain, front, third], [False, True, True])
    assert points_missed([plain, front, both], [True, True, True]) == ""  # the plain one is wrong
    others = [Case(title, {}, len, point=title) for title in "xyz"]
    assert points_missed([plain, *others], [False, True, True, True]) == ""  # it is anything


def test_the_point_of_the_calls_that_go_wrong_is_told_where_no_change_is_found() -> None:
    body = """
    centred = x - x.mean(-1, keepdim=True)
    room = (centred * centred).mean(-1, keepdim=True)
    room[room < eps] = eps
    return centred / room.sqrt() * gain + bias
    """
    verdict = told("encoder.layer_norm", body)
    assert verdict.way == "point"
    assert "`eps` is added to the variance" in verdict.says


def test_several_values_have_names() -> None:
    verdict = told(
        "training.clip_gradients",
        """
        norm = math.sqrt(sum(float((one.grad.abs() ** 3).sum()) for one in parameters))
        return norm
        """,
    )
    assert "The length that you return" in verdict.headline


def test_an_assert_is_told_from_another_error() -> None:
    assert "An `assert` in your code" in error_sentence(AssertionError())


# --- safety --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "open('left_behind', 'w')\nreturn scores",
        "import os\nos.mkdir('left_behind')\nreturn scores",
        "import subprocess\nreturn scores",
        "import threading\nthreading.Thread(target=print).start()\nreturn scores",
        "return eval('scores')",
    ],
)
def test_code_that_does_more_than_compute_is_not_run_again(
    body: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = blank_with("attention.softmax", body)
    assert not only_computes(ast.parse(source))
    verdict = Verdict("attention.softmax", "wrong", "")
    assert explain(exercises.find("attention.softmax"), source, verdict) == verdict
    assert list(tmp_path.iterdir()) == []


def test_a_repair_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace, threads = dict(parts.namespace("attention.softmax")), threading.active_count()
    state, environment = torch.get_num_threads(), dict(os.environ)
    source = blank_with(
        "attention.softmax",
        "e = torch.exp(scores - scores.amax(dim, keepdim=True)) + 1\nreturn e / e.sum(dim)",
    )
    repair(Trial(exercises.find("attention.softmax"), source, 2.0))
    assert dict(parts.namespace("attention.softmax")) == namespace
    assert (threading.active_count(), torch.get_num_threads()) == (threads, state)
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) == []


def test_changes_that_never_end_are_given_up() -> None:
    """`while n > 0: n -= 1` is one edit from an endless loop, in several ways."""
    source = blank_with(
        "attention.softmax",
        """
        n = 3
        while n > 0:
            n = n - 1
        return torch.cos(3 * scores) + n
        """,
    )
    found = repair(Trial(exercises.find("attention.softmax"), source, 1.5))
    assert found is None or found.line > 0


def test_what_a_call_returned_may_not_change_later() -> None:
    source = """kept = torch.zeros(3000, 3000, dtype=torch.bool)


def causal_mask(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    mask = kept[:n_query, :n_key]
    mask.copy_(torch.ones(n_query, n_key).tril(n_key - n_query))
    return mask
"""
    verdict = worker.examine("decoder.causal_mask", source)
    assert "a later call has changed it" in verdict.headline


# --- as the notebooks say ------------------------------------------------------------------------


def test_the_mistakes_made_on_purpose_in_notebook_00() -> None:
    listed = told("start_here.shape_of", "return x.shape[1], x.shape[0], x.shape[2]")
    assert listed.mistake
    unlisted = told("start_here.shape_of", "return x.shape[0], x.shape[0] * x.shape[1], x.shape[2]")
    assert (unlisted.way, unlisted.expression) == ("change", "x.shape[0] * x.shape[1]")
