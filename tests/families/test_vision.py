"""A picture as a text: its patches are in order, and a model says what it cannot read."""

import pytest
import torch
from torch import nn

from course_utils import attention, encoder
from course_utils.families import vision


def test_patches_by_hand() -> None:
    picture = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6)
    patches = vision.patchify(picture, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 0].tolist() == [0, 1, 6, 7, 24, 25, 30, 31]
    assert patches[0, 1, :4].tolist() == [2, 3, 8, 9]  # to the right first
    assert patches[0, 3, :4].tolist() == [12, 13, 18, 19]


def test_a_map_of_patches_is_a_convolution_without_overlap() -> None:
    torch.manual_seed(0)
    pictures, weight = torch.randn(3, 2, 12, 12), torch.randn(5, 2, 4, 4)
    wanted = nn.functional.conv2d(pictures, weight, stride=4).flatten(2).transpose(1, 2)
    found = vision.patchify(pictures, 4) @ weight.flatten(1).T
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


SIZES = {
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-6,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
}


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (1, 1, 8, 8), (3, 8, 8)])
def test_a_picture_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \[batch, 3, 8, 8\], got \["):
        vision.vit(SIZES)(torch.zeros(shape))


def test_patches_must_fill_a_picture() -> None:
    with pytest.raises(ValueError, match="image must be a multiple of patch, got 8 and 3"):
        vision.vit(SIZES | {"patch_size": 3})


def test_a_picture_shows_its_attention() -> None:
    model = vision.vit(SIZES)
    with attention.record() as maps:
        model(torch.zeros(2, 3, 8, 8))
    assert [weights.shape for weights in maps.values()] == [(2, 3, 5, 5)] * 2


@torch.no_grad()
def test_a_text_of_clip_ends_at_its_first_end() -> None:
    torch.manual_seed(0)
    sizes = {"text_config": SIZES | {"vocab_size": 9, "eos_token_id": 4}, "vision_config": SIZES}
    model = vision.clip(sizes | {"projection_dim": 7})
    ids = torch.tensor([[7, 2, 4, 0, 0], [7, 2, 4, 4, 8], [7, 2, 3, 4, 4]])
    first, same, other = model.embed_texts(ids)
    torch.testing.assert_close(first, same)
    assert (first - other).norm() > 0.1
    torch.testing.assert_close(model.embed_texts(ids).norm(dim=-1), torch.ones(3))
    assert isinstance(model.images, encoder.Encoder)
