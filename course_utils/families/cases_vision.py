"""ViT and CLIP beside those of Hugging Face."""

from typing import Any

import torch
from torch import Tensor

from course_utils.families import rules_vision, vision
from course_utils.families.cases_bert import states
from course_utils.families.comparing import (
    BATCH,
    CONTEXT,
    D_HIDDEN,
    D_MODEL,
    EPS,
    N_HEADS,
    TARGET,
    VOCABULARY,
    Case,
    filled,
    normal,
    randomise,
    token_ids,
)

# All sizes differ: of pictures, patches, channels, both towers and what is between them.
IMAGE, PATCH, N_CHANNELS, N_CLASSES, D_COMMON = 15, 5, 2, 11, 14
END = 3  # the token that ends a text
_SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": 3,
    "num_attention_heads": N_HEADS,
    "intermediate_size": D_HIDDEN,
    "layer_norm_eps": EPS,
}
_PICTURE: dict[str, Any] = {"image_size": IMAGE, "patch_size": PATCH, "num_channels": N_CHANNELS}


def pictures(n: int = BATCH) -> Tensor:
    return normal((n, N_CHANNELS, IMAGE, IMAGE), torch.Generator().manual_seed(0))


def vit() -> Case:
    """ViT's states after the embedding and after every block."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**_SIZES, **_PICTURE)
    theirs: Any = randomise(ViTModel(config, add_pooling_layer=False))
    return Case(
        "Hugging Face ViT",
        "hidden states",
        theirs,
        filled(vision.vit(config.to_dict()), theirs, rules_vision.VIT),
        rules_vision.VIT,
        (pictures(),),
        _their_states,
        lambda model, images: [*states(model, images), model(images)],
    )


def _their_states(model: Any, images: Tensor) -> list[Tensor]:
    answer = model(images, output_hidden_states=True)
    return [*answer.hidden_states, answer.last_hidden_state]


def vit_classifier() -> Case:
    """ViT's classes of pictures."""
    from transformers import ViTConfig, ViTForImageClassification

    classes = {number: f"class {number}" for number in range(N_CLASSES)}
    config = ViTConfig(**_SIZES, **_PICTURE, id2label=classes)
    theirs = randomise(ViTForImageClassification(config))
    return Case(
        "Hugging Face ViT",
        "classes",
        theirs,
        filled(vision.vit_classifier(config.to_dict()), theirs, rules_vision.VIT_CLASSIFIER),
        rules_vision.VIT_CLASSIFIER,
        (pictures(),),
        lambda model, images: [model(images).logits],
        lambda model, images: [model(images)],
    )


def clip() -> Case:
    """CLIP: vectors of pictures and of texts, which end at different places, and their scores."""
    from transformers import CLIPConfig, CLIPModel

    words = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": END, "pad_token_id": 0}
    images = {"hidden_size": 20, "num_attention_heads": 5, "intermediate_size": 36}
    config = CLIPConfig(
        text_config=_SIZES | words | {"max_position_embeddings": CONTEXT},
        vision_config=_SIZES | images | {"num_hidden_layers": 2} | _PICTURE,
        projection_dim=D_COMMON,
    )
    theirs = randomise(CLIPModel(config))
    return Case(
        "Hugging Face CLIP",
        "vectors, scores",
        theirs,
        filled(vision.clip(config.to_dict()), theirs, rules_vision.CLIP),
        rules_vision.CLIP,
        (pictures(BATCH - 1), ended(token_ids(0))),
        _their_vectors,
        lambda model, images, ids: [
            model.embed_images(images),
            model.embed_texts(ids),
            model(images, ids),
        ],
    )


def ended(ids: Tensor) -> Tensor:
    """Texts that end earlier and earlier. Behind its end a text has more such tokens, or others."""
    ids = torch.where(ids == END, END + 1, ids)
    for row in range(len(ids)):
        ids[row, TARGET - 1 - 2 * row] = END
    ids[1, -1] = END
    return ids


def _their_vectors(model: Any, images: Tensor, ids: Tensor) -> list[Tensor]:
    answer = model(ids, images)
    return [answer.image_embeds, answer.text_embeds, answer.logits_per_image]
