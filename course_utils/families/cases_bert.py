"""GPT-2 and BERT beside those of Hugging Face."""

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils import encoder, families
from course_utils.families import renaming
from course_utils.families.comparing import (
    CONTEXT,
    D_HIDDEN,
    D_MODEL,
    EPS,
    N_HEADS,
    READ,
    TARGET,
    VOCABULARY,
    Case,
    filled,
    randomise,
    read_ours,
    read_theirs,
    real_tokens,
    token_ids,
)


def gpt2() -> Case:
    """GPT-2 with its language head."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=D_MODEL,
        n_layer=3,
        n_head=N_HEADS,
        n_inner=D_HIDDEN,
        layer_norm_epsilon=EPS,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = randomise(GPT2LMHeadModel(config))
    return Case(
        "Hugging Face GPT-2",
        "logits",
        theirs,
        filled(families.gpt2(config.to_dict()), theirs, renaming.GPT2),
        renaming.GPT2,
        (token_ids(0, READ[-1]),),
        lambda model, ids: [model(ids).logits],
        lambda model, ids: [model(ids)],
        read_theirs=read_theirs,
        read_ours=read_ours,
    )


def _bert_config() -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=D_MODEL,
        num_hidden_layers=3,
        num_attention_heads=N_HEADS,
        intermediate_size=D_HIDDEN,
        max_position_embeddings=CONTEXT,
        type_vocab_size=2,
        layer_norm_eps=EPS,
    )


def bert() -> Case:
    """BERT's states at real tokens, after the embedding and after every block."""
    from transformers import BertModel

    config = _bert_config()
    theirs = randomise(BertModel(config, add_pooling_layer=False))
    real, types = real_tokens(TARGET), token_ids(1, vocabulary=3) - 1
    return Case(
        "Hugging Face BERT",
        "hidden states, padded",
        theirs,
        filled(families.bert(config.to_dict()), theirs, renaming.BERT),
        renaming.BERT,
        (token_ids(0) * real,),
        lambda model, ids: [
            state[real]
            for state in model(ids, real, types, output_hidden_states=True).hidden_states
        ],
        lambda model, ids: [
            state[real] for state in states(model, ids, encoder.padding_mask(ids, 0), types)
        ],
    )


def bert_masked() -> Case:
    """BERT's scores of every token at every real place of a padded batch."""
    from transformers import BertForMaskedLM

    config = _bert_config()
    theirs = randomise(BertForMaskedLM(config))
    real, types = real_tokens(TARGET), token_ids(1, vocabulary=3) - 1
    return Case(
        "Hugging Face BERT",
        "masked-token logits, padded",
        theirs,
        filled(families.bert_masked(config.to_dict()), theirs, renaming.BERT_MASKED),
        renaming.BERT_MASKED,
        (token_ids(0) * real,),
        lambda model, ids: [model(ids, real, types).logits[real]],
        lambda model, ids: [model(ids, encoder.padding_mask(ids, 0), types)[real]],
    )


def minilm() -> Case:
    """The embeddings of a trained model, all-MiniLM-L6-v2; here the weights are its own."""
    from transformers import BertConfig, BertModel

    ours, folder = families.minilm(), families.minilm_folder()
    theirs = BertModel(BertConfig.from_json_file(folder / "config.json"))
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.position_ids"]  # 0, 1, 2 …: today's BertModel makes them itself
    theirs.load_state_dict(weights)
    ids = ours.ids(["The car is red.", "A vehicle of a bright colour", "It rains", "unbelievable"])
    real = ids != ours.pad_id

    def embed(model: nn.Module, ids: Tensor) -> list[Tensor]:
        last = model(ids, real.long()).last_hidden_state
        means = torch.stack([row[kept].mean(0) for row, kept in zip(last, real, strict=True)])
        return [means / means.norm(dim=-1, keepdim=True)]

    return Case(
        "MiniLM (Hugging Face BERT)",
        "sentence embeddings",
        theirs,
        ours,
        renaming.nested(renaming.BERT, theirs="", ours="encoder."),
        (ids,),
        embed,
        lambda model, ids: [model.embed(ids)],
        dtypes=(torch.float32,),
    )


def states(model: encoder.Encoder, *inputs: Tensor) -> list[Tensor]:
    """What leaves an encoder's embedding and each of its blocks."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: found.append(output))
        for module in (model.embed, *model.blocks)
    ]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found
