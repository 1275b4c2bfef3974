"""Filled forms are beginnings of stories, and the grammar itself knows their answers."""

from random import Random

import pytest

from course_utils.corpora import stories, story_forms

FORMS = (story_forms.WHERE, story_forms.COLOUR)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("asked", ["ball", "kite"])
def test_the_grammar_gives_the_answer(form: str, asked: str) -> None:
    for seed in range(30):
        blanks = story_forms.draw(Random(seed))
        blanks["asked"] = blanks[asked]
        expected = story_forms.answer(form, blanks)
        assert stories.next_words(story_forms.fill(form, blanks)) == {expected: 1.0}
        assert expected in story_forms.candidates(form, blanks)


@pytest.mark.parametrize("form", FORMS)
def test_a_blank_stands_where_it_is_said_to_stand(form: str) -> None:
    blanks = story_forms.draw(Random(0))
    words = [stories.START, *story_forms.fill(form, blanks)]
    for blank in ("last", "other", "red", "blue", "asked"):
        assert words[story_forms.place_of(form, blank)] == blanks[blank]


@pytest.mark.parametrize("form", FORMS)
def test_many_stories_are_told_with_their_answers(form: str) -> None:
    rows = story_forms.several(3, 40)
    assert rows == story_forms.several(3, 40) != story_forms.several(4, 40)
    assert {row["asked"] == row["ball"] for row in rows} == {True, False}
    ids, answers = story_forms.told(form, rows), story_forms.answers(form, rows)
    for row, numbers, answer in zip(rows, ids, answers.tolist(), strict=True):
        start, *words = stories.decode(numbers)
        assert start == stories.START and words == story_forms.fill(form, row)
        assert stories.next_words(words) == {stories.VOCABULARY[answer]: 1.0}


def test_partners_share_no_answer() -> None:
    sets = [story_forms.several(seed, 60) for seed in (1, 2)]
    partners = story_forms.partners(sets, 3)
    assert partners == story_forms.partners(sets, 3) != story_forms.several(3, 60)
    for rows in sets:
        for form in FORMS:
            same = story_forms.answers(form, rows) == story_forms.answers(form, partners)
            assert len(same) == 60 and not same.any()
        for one, other in zip(rows, partners, strict=True):
            assert one["asked"] != other["asked"] and one["first"] != other["first"]
