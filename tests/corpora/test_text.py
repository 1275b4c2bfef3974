"""The reader for a text file of your own: any UTF-8, split without loss, and clear errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.corpora import text

STORY = "The car is red. " * 200


def written(folder, content: bytes | str):
    path = folder / "mine.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_end_is_kept_for_testing_and_nothing_is_lost(tmp_path):
    found = text.read(written(tmp_path, STORY))
    assert found.training + found.validation == STORY
    assert abs(len(found.validation) / len(STORY) - 0.1) < 0.01


def test_the_path_may_be_a_name(tmp_path):
    path = written(tmp_path, STORY)
    assert text.read(str(path)) == text.read(path)


@given(st.floats(0.01, 0.99))
def test_the_share_is_kept_and_no_word_is_cut(tmp_path_factory, share):
    found = text.read(written(tmp_path_factory.mktemp("text"), STORY), share)
    assert abs(len(found.validation) / len(STORY) - share) < 0.01
    assert found.training[-1].isspace()
    assert not found.validation[0].isspace()


@pytest.mark.parametrize(
    "content", ["車は赤い。" * 300, "naïve Äpfel – 🚗 " * 100, "слово " * 300, "x" * 5000]
)
def test_every_script_is_read(tmp_path, content):
    found = text.read(written(tmp_path, content))
    assert found.training + found.validation == content
    assert found.training
    assert found.validation


def test_line_ends_and_the_mark_of_some_editors_are_cleaned(tmp_path):
    content = b"\xef\xbb\xbf" + b"one line\r\nnext\rlast\n" * 100
    found = text.read(written(tmp_path, content))
    assert found.training + found.validation == "one line\nnext\nlast\n" * 100


def test_a_text_without_spaces_near_the_cut_is_cut_there(tmp_path):
    content = "a word " + "x" * 5000 + " and an end"
    found = text.read(written(tmp_path, content))
    assert len(found.training) == round(0.9 * len(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"too short", "has 9 characters, too few"),
        (b"\x89PNG\r\n\x1a\n" * 500, "is not text in UTF-8 .byte 0 does not fit"),
        (("ö" * 2000).encode("latin-1"), 'with the encoding "UTF-8"'),
        (STORY.encode("utf-16"), "is not text in UTF-8"),
        (STORY.encode("utf-16-le"), "is not a text file"),
        (STORY.encode() + b"\0", "is not a text file"),
    ],
)
def test_what_is_not_a_text_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        text.read(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.txt"):
        text.read(tmp_path / "nowhere.txt")


def test_a_folder_is_not_a_text(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        text.read(tmp_path)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_a_share_must_leave_something_on_both_sides(tmp_path, share):
    with pytest.raises(ValueError, match="validation_share must be between 0 and 1"):
        text.read(written(tmp_path, STORY), share)


# --- Characters ----------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_characters_and_numbers_are_the_same_text(whole):
    characters = text.Characters.of(whole)
    assert characters.decode(characters.encode(whole)) == whole
    assert list(characters.vocabulary) == sorted(set(whole))


def test_every_character_has_its_place():
    characters = text.Characters.of("banana")
    assert characters.vocabulary == "abn"
    assert characters.encode("nab").tolist() == [2, 0, 1]
    assert characters.encode("").tolist() == []
    assert characters.encode("").dtype == torch.long


def test_a_character_that_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"text: the character 'é' is not one of the 3 .*'abn'"):
        text.Characters("abn").encode("bané")


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_id_without_a_character_is_named(wrong):
    with pytest.raises(ValueError, match=f"ids: {wrong} is not between 0 and 2"):
        text.Characters("abn").decode([0, wrong])


def test_crops_are_pieces_that_seed_and_step_decide():
    ids = torch.arange(50)
    pieces = text.crops(ids, 1, 2, 200, 7)
    assert pieces.shape == (200, 7)
    assert torch.equal(pieces - pieces[:, :1], torch.arange(7).expand(200, 7))
    assert pieces.min() == 0 and pieces.max() == 49  # the first and the last token are drawn, too
    assert torch.equal(pieces, text.crops(ids, 1, 2, 200, 7))
    for seed, step in [(2, 2), (1, 3), (12, 2), (2, 1)]:
        assert not torch.equal(pieces, text.crops(ids, seed, step, 200, 7))


def test_a_crop_may_be_the_whole_text_and_no_more():
    ids = torch.arange(5)
    assert text.crops(ids, 0, 0, 1, 5).tolist() == [[0, 1, 2, 3, 4]]
    with pytest.raises(ValueError, match="n_tokens: the text has 5, too few for pieces of 6"):
        text.crops(ids, 0, 0, 1, 6)
