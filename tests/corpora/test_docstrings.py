import string

from course_utils.corpora import docstrings


def test_a_docstring_is_there_as_python_shows_it_and_once():
    text = docstrings.read()
    whole = text.training + text.validation
    assert whole.count(string.capwords.__doc__.split("\n", 1)[0]) == 1


def test_the_parts_are_large_and_share_no_docstring():
    text = docstrings.read()
    assert len(text.training) > 400_000
    assert len(text.validation) > 30_000
    long = [each for each in text.validation.split("\n\n\n") if len(each) > 300]
    assert not any(each in text.training for each in long)
