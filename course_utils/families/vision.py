"""ViT and CLIP, composed of our parts: a picture is a text whose tokens are its patches."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, projection
from course_utils.families.config import Config, need, require
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

# --- Pictures as tokens --------------------------------------------------------------------------


def patchify(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch patches d_patch"]:
    """Cut pictures into squares of `size` pixels, row by row from the top (ViT, §3.1).

    A square is a vector: its first channel, row by row, then its second, and so on.
    """
    rows = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class ImageEmbedding(nn.Module):
    """Patches as tokens, behind one that stands for the whole picture, with their places."""

    def __init__(
        self, n_channels: int, image: int, patch: int, d_model: int, norm: nn.Module, bias: bool
    ):
        super().__init__()
        if image % patch:
            raise ValueError(f"image must be a multiple of patch, got {image} and {patch}")
        self.image = [n_channels, image, image]
        self.patch = patch
        self.patches = Linear(n_channels * patch**2, d_model, bias)
        self.whole = nn.Parameter(torch.zeros(d_model))
        self.positions = LearnedPositions(1 + (image // patch) ** 2, d_model)
        self.norm = norm

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch 1+patches d_model"]:
        if list(images.shape[1:]) != self.image:
            sizes = ", ".join(map(str, self.image))
            raise ValueError(f"images must be [batch, {sizes}], got {list(images.shape)}")
        patches = self.patches(patchify(images, self.patch))
        whole = self.whole.expand(len(patches), 1, -1)
        return self.norm(self.positions(torch.cat((whole, patches), dim=1)))


def _embedding(config: Config, norm: nn.Module, bias: bool) -> ImageEmbedding:
    sizes = config["num_channels"], config["image_size"], config["patch_size"]
    return ImageEmbedding(*sizes, config["hidden_size"], norm, bias)


# --- ViT (Dosovitskiy et al. 2020) ---------------------------------------------------------------

SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
PICTURE = ("image_size", "patch_size", "num_channels")


class ImageClassifier(nn.Module):
    """Says what a picture shows: an encoder, and a map from the token for the whole picture."""

    def __init__(self, encoder: encoder.Encoder, head: Linear):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        return self.head(self.encoder(images)[:, 0])


def vit(config: Config) -> encoder.Encoder:
    """ViT without a head, not yet filled: an encoder of pre-norm blocks that reads pictures."""
    need(config, *SIZES, *PICTURE, "layer_norm_eps")
    require(config, hidden_act="gelu", qkv_bias=True)
    return encoder.Encoder(
        _embedding(config, nn.Identity(), bias=True),
        _blocks(config, encoder.FeedForward),
        _norm(config),
    )


def vit_classifier(config: Config) -> ImageClassifier:
    """ViT with a class for each of `id2label`, not yet filled. Two classes need no names."""
    n_classes = len(config.get("id2label") or range(2))
    body = vit(config)
    return ImageClassifier(body, Linear(config["hidden_size"], n_classes))


# --- CLIP (Radford et al. 2021) ------------------------------------------------------------------


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU with a sigmoid in place of the normal distribution (Hendrycks & Gimpel 2016, §2)."""
    return x * torch.sigmoid(1.702 * x)


class QuickFeedForward(encoder.FeedForward):
    """The feed-forward net of CLIP: its activation is `quick_gelu`."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        hidden = quick_gelu(projection.linear(x, self.up.weight, self.up.bias))
        return projection.linear(hidden, self.down.weight, self.down.bias)


class CLIP(nn.Module):
    """Pictures and texts as vectors of length 1 in one space: what belongs together is close.

    A text is read from left to right, and its vector is that of the first token `end_id`. The
    cosines are multiplied by exp(`log_scale`), which is learned (Radford et al. 2021, §2.3).
    """

    def __init__(
        self, texts: decoder.GPT, images: encoder.Encoder, image_head: Linear, end_id: int
    ):
        super().__init__()
        self.texts = texts
        self.images = images
        self.image_head = image_head
        self.end_id = end_id
        self.log_scale = nn.Parameter(torch.zeros(()))

    def embed_texts(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts d"]:
        ends = (ids == self.end_id).int().argmax(1)
        rows = torch.arange(len(ids), device=ids.device)
        return nn.functional.normalize(self.texts(ids)[rows, ends], dim=-1)

    def embed_images(
        self, images: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "images d"]:
        return nn.functional.normalize(self.image_head(self.images(images)[:, 0]), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "images channels height width"],
        ids: Int[Tensor, "texts tokens"],
    ) -> Float[Tensor, "images texts"]:
        """Scores (logits) of every text for every picture."""
        return self.log_scale.exp() * self.embed_images(images) @ self.embed_texts(ids).T


# What a file leaves out, since it is as in the first CLIP.
_TEXTS = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
}
_IMAGES = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
}


def clip(config: Config) -> CLIP:
    """CLIP, not yet filled: a GPT for texts whose head maps to the common space, and a ViT."""
    require(config)
    common = {"projection_dim": 512} | config
    need(common, "projection_dim")
    texts = _TEXTS | (config.get("text_config") or {})
    images = _IMAGES | (config.get("vision_config") or {})
    return CLIP(
        _texts(texts, common["projection_dim"]),
        _images(images),
        Linear(images["hidden_size"], common["projection_dim"], bias=False),
        _end_id(texts),
    )


def _texts(config: Config, d_common: int) -> decoder.GPT:
    need(config, *SIZES, "vocab_size", "max_position_embeddings", "layer_norm_eps")
    d_model = config["hidden_size"]
    places = LearnedPositions(config["max_position_embeddings"], d_model)
    return decoder.GPT(
        InputEmbedding(Embedding(config["vocab_size"], d_model), places),
        _blocks(config, _feed_forward(config)),
        _norm(config),
        Linear(d_model, d_common, bias=False),
    )


def _images(config: Config) -> encoder.Encoder:
    need(config, *SIZES, *PICTURE, "layer_norm_eps")
    return encoder.Encoder(
        _embedding(config, _norm(config), bias=False),
        _blocks(config, _feed_forward(config)),
        _norm(config),
    )


def _end_id(config: Config) -> int:
    """The token whose state is that of the text. The first files say 2, and mean the last."""
    end_id = config["eos_token_id"]
    return config["vocab_size"] - 1 if end_id == 2 else end_id


def _feed_forward(config: Config) -> Callable[[int, int], nn.Module]:
    kinds = {"quick_gelu": QuickFeedForward, "gelu": encoder.FeedForward}
    if config["hidden_act"] not in kinds:
        raise ValueError(
            f"config.json says hidden_act = {config['hidden_act']!r}; "
            f"one of {list(kinds)} is built here"
        )
    return kinds[config["hidden_act"]]


# --- What both are made of -----------------------------------------------------------------------


def _blocks(
    config: Config, make_net: Callable[[int, int], nn.Module]
) -> list[encoder.TransformerBlock]:
    d_model, n_heads = config["hidden_size"], config["num_attention_heads"]
    return [
        encoder.TransformerBlock(
            attention.MultiHeadAttention(d_model, n_heads),
            make_net(d_model, config["intermediate_size"]),
            _norm(config),
            _norm(config),
        )
        for _ in range(config["num_hidden_layers"])
    ]


def _norm(config: Config) -> nn.Module:
    return encoder.LayerNorm(config["hidden_size"], config["layer_norm_eps"])
