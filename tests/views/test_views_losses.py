"""The picture of a training run: its curves, its validation points, and its levels."""

import math

import pytest

from course_utils import views
from course_utils.views import letters
from course_utils.views.loss_curves import smoothed

LOG = [
    {"step": step, "loss": 3 - step / 100, "norm": 1.0}
    | ({"validation": 2.5} if step % 50 == 49 else {})
    for step in range(200)
]


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def levels(figure):
    return {text.get_text(): text.xy[1] for text in figure.axes[0].texts}


def test_a_run_has_its_loss_its_mean_and_its_validation_points():
    figure = views.losses(LOG)
    raw, mean, points = figure.axes[0].lines
    assert list(raw.get_ydata()) == [record["loss"] for record in LOG]
    assert list(mean.get_ydata()) == smoothed(list(raw.get_ydata()), 2)
    assert list(points.get_xdata()) == [49, 99, 149, 199]
    assert labels(figure) == ["training", "validation"]
    assert figure.axes[0].get_ylabel() == "loss (nats a token)"


def test_runs_by_name_have_a_colour_each():
    short = [{"step": 0, "loss": 4.0}]
    figure = views.losses({"mine": LOG, "other": short}, title="Two runs")
    assert labels(figure) == ["mine", "mine, validation", "other"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2
    assert figure.axes[0].get_title() == "Two runs"


def test_every_level_is_a_line_with_its_name_and_value():
    figure = views.losses(LOG, levels={"uniform": 5.3, "floor": 0.5})
    assert levels(figure) == {"floor 0.50": 0.5, "uniform 5.30": 5.3}
    assert figure.axes[0].get_ylim()[1] > 5.3
    assert [line.get_ydata()[0] for line in figure.axes[0].lines[-2:]] == [0.5, 5.3]


def test_names_of_close_levels_do_not_cover_each_other():
    figure = views.losses(LOG, levels={"2-gram": 1.01, "floor": 1.0, "uniform": 5.0})
    floor, bigram, uniform = levels(figure).values()
    assert floor == 1.0 and uniform == 5.0
    assert bigram > floor + 0.2
    assert "2-gram 1.01" in levels(figure)


def test_smoothing_takes_the_values_around_and_fewer_at_the_ends():
    assert smoothed([4.0, 2.0, 6.0, 1.0], 1) == [3.0, 4.0, 3.0, 3.5]
    assert smoothed([4.0, 2.0, 6.0], 0) == [4.0, 2.0, 6.0]
    assert smoothed([4.0, 2.0, 6.0], 9) == [4.0, 4.0, 4.0]


def test_a_spike_or_a_nan_does_not_hide_the_rest():
    spoilt = [*LOG, {"step": 200, "loss": 1e6}, {"step": 201, "loss": math.nan}]
    assert views.losses(spoilt).axes[0].get_ylim()[1] < 4


@pytest.mark.parametrize(("log", "named"), [([], "got none"), ({"mine": []}, "'mine'")])
def test_a_log_without_records_is_refused(log, named):
    with pytest.raises(ValueError, match=named):
        views.losses(log)


def test_names_are_shown_as_they_are(monkeypatch, recwarn):
    monkeypatch.setattr(letters, "_fonts", list)  # matplotlib's own font has no 漢
    figure = views.losses({"$$": LOG, "漢": LOG}, {"漢": 1.0, "字": 2.0}, title="$5 and $6")
    figure.canvas.draw()
    assert labels(figure) == ["$$", "$$, validation", "□", "□, validation"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["□ 1.00", "□ 2.00"]
    assert "no font" in figure.axes[0].get_xlabel()
    assert not recwarn.list
