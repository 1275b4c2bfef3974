"""The bars of the next token, and the text that carries numbers."""

import math

import matplotlib.pyplot as plt
import pytest
import torch

from course_utils import views
from course_utils.views import letters
from course_utils.views.next_token import AFTER, STYLES

TOKENS = ["red", "blue", "fast", "sofa"]
LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def without(*places):
    """A filter that removes the tokens at these places."""

    def apply(logits):
        assert logits.ndim == 2
        removed = torch.zeros(logits.shape[-1], dtype=torch.bool)
        removed[list(places)] = True
        return logits.masked_fill(removed, -math.inf)

    return apply


def bars(figure, label):
    """Heights of the bars of one entry of the legend."""
    (axis,) = figure.axes
    handles, labels = axis.get_legend_handles_labels()
    return [bar.get_height() for bar in handles[labels.index(label)]]


def test_without_filters_before_and_after_are_the_same():
    figure = views.choices(LOGITS, TOKENS)
    assert bars(figure, "before") == pytest.approx([0.5, 0.3, 0.15, 0.05])
    assert bars(figure, "after") == pytest.approx(bars(figure, "before"))
    assert "4 of 4 left" in figure.axes[0].get_title()


def test_each_filter_gets_what_it_was_the_first_to_remove():
    figure = views.choices(LOGITS, TOKENS, {"one": without(3), "two": without(2, 3)})
    assert bars(figure, "one removes 1") == pytest.approx([0, 0, 0, 0.05], abs=1e-6)
    assert bars(figure, "two removes 1") == pytest.approx([0, 0, 0.15, 0], abs=1e-6)
    assert bars(figure, "after") == pytest.approx([0.625, 0.375, 0, 0], abs=1e-6)
    assert "they had 0.800 of the probability" in figure.axes[0].get_title()


def test_a_filter_that_only_changes_logits_removes_nothing():
    figure = views.choices(LOGITS, TOKENS, {"temperature": lambda logits: logits / 0.5})
    assert bars(figure, "temperature removes 0") == [0, 0, 0, 0]
    assert bars(figure, "after")[0] == pytest.approx(0.25 / 0.365)


def test_entropy_is_that_of_the_probabilities_in_nats():
    title = views.choices(torch.zeros(4), TOKENS, {"last": without(1, 2, 3)}).axes[0].get_title()
    assert f"entropy {math.log(4):.2f} → 0.00 nats" in title


def test_tokens_are_sorted_and_the_rest_shares_a_bar():
    figure = views.choices(LOGITS.flip(0), TOKENS, {"one": without(0)}, n_shown=2)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "sofa", "fast", "2 others",
    ]  # fmt: skip
    assert bars(figure, "before") == pytest.approx([0.5, 0.3, 0.2])
    assert bars(figure, "one removes 1") == pytest.approx([0, 0, 0.05], abs=1e-6)


def test_filters_differ_in_hatch_and_colour_and_the_picture_is_shown_once():
    colours, hatches = zip(*STYLES, strict=True)
    assert len({*colours, AFTER}) == len(colours) + 1
    assert len(set(hatches)) == len(hatches)
    views.choices(LOGITS, TOKENS)
    assert plt.get_fignums() == []


def test_names_are_shown_as_they_are_and_short():
    tokens = ["$$", " $a$", "", "donaudampfschifffahrtsgesellschaft"]
    figure = views.choices(LOGITS, tokens, {"a $b$ _c": without(0)}, title="What costs $5 and $6")
    figure.canvas.draw()
    (axis,) = figure.axes
    names = [label.get_text() for label in axis.get_xticklabels()]
    assert names == ["$$", "␣$a$", "∅", "donaudampfschif…"]
    texts = [*axis.get_xticklabels(), axis.title, *figure.legends[0].get_texts()]
    assert not any(text.get_parse_math() for text in texts)


def test_a_letter_without_a_font_gets_a_box_and_no_warning(monkeypatch, recwarn):
    monkeypatch.setattr(letters, "_fonts", list)
    figure = views.choices(LOGITS, ["漢", "🙂", "é", "a"])
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["□", "□", "é", "a"]
    assert "no font" in figure.axes[0].get_xlabel()
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_kind_of_number_and_one_token(dtype):
    logits = torch.zeros(1, dtype=dtype, requires_grad=True)
    assert bars(views.choices(logits, ["a"]), "after") == [1]


@pytest.mark.parametrize(
    ("logits", "filters", "message"),
    [
        (LOGITS * math.nan, {}, "got NaN or infinity"),
        (-LOGITS / 0, {}, "got NaN or infinity"),
        (LOGITS, {"flat": lambda logits: logits[0]}, r"'flat' must give .* \[1, 4\], got \[4\]"),
        (LOGITS[:3], {}, "one number for each of 4 tokens"),
        (LOGITS[None], {}, r"got shape \[1, 4\]"),
        (LOGITS, {"all": without(0, 1, 2, 3)}, "nothing is left after 'all'"),
        (LOGITS, {str(n): without(0) for n in range(9)}, "at most 4, got 9"),
    ],
)
def test_choices_refuses_what_does_not_fit(logits, filters, message):
    with pytest.raises(ValueError, match=message):
        views.choices(logits, TOKENS, filters)


def test_no_tokens_and_no_bars_are_refused():
    with pytest.raises(ValueError, match=r"got shape \[0\]"):
        views.choices(torch.zeros(0), [])
    with pytest.raises(ValueError, match="n_shown must be at least 1"):
        views.choices(LOGITS, TOKENS, n_shown=0)
    with pytest.raises(TypeError, match="logits must be a tensor, got list"):
        views.choices([0.0], ["a"])


def test_coloured_text_marks_what_has_no_look_of_its_own():
    shown = views.coloured_text([" a", "\n", "</span>"], [0, 1, 2], "Entropy")
    assert repr(shown) == "Entropy: ␣a(0.0) ↵(1.0) </span>(2.0)"
    assert "&lt;/span&gt;" in shown.html


def test_coloured_text_says_the_numbers_too():
    shown = views.coloured_text(["a", "<bos>"], torch.tensor([0.0, 2.5]), "Entropy")
    assert "&lt;bos&gt;" in shown.html
    assert "rgb(255, 255, 255)" in shown.html
    assert ">2.5</span>" in shown.html
    assert repr(shown) == "Entropy: a(0.0) <bos>(2.5)"


def test_coloured_text_takes_no_text_at_all():
    assert "figure" in views.coloured_text([], [], "Nothing").html


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "for each of 2"),
        ([1.0, -1.0], "0 or more"),
        ([1.0, math.nan], "0 or more"),
        ([1.0, math.inf], "finite"),
        (torch.ones(2, 2), r"values must be \[tokens\] = \[2\], got \[2, 2\]"),
    ],
)
def test_coloured_text_refuses_what_does_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        views.coloured_text(["a", "b"], values, "Entropy")
