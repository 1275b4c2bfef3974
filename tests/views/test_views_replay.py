import pytest

from course_utils import views

FRAMES = [("no merge", ["h", "u", "g", "<"]), ("u + g", ["h", "ug", "<"])]


def test_it_shows_the_last_state_without_a_script_and_says_both_in_words():
    view = views.replay(FRAMES, "Merges")
    static = view.html.split("<script")[0]
    assert ">ug</span>" in static and ">&lt;</span>" in static
    assert view.text == "Merges, 2 states\nno merge: h | u | g | <\nu + g: h | ug | <"


def test_a_piece_keeps_its_colour_and_a_character_has_none():
    html = views.replay(FRAMES, "Merges").html
    assert '["h", -1]' in html and '["h", 0]' not in html


def test_frames_of_different_texts_are_refused():
    with pytest.raises(ValueError, match="number 1"):
        views.replay([("one", ["a"]), ("other", ["b"])], "Merges")
    with pytest.raises(ValueError, match="empty"):
        views.replay([], "Merges")
