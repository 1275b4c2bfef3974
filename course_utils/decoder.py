"""A decoder-only transformer: it reads from left to right and predicts the next token."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import encoder
from course_utils.projection import Embedding, Linear


def causal_mask(n_tokens: int) -> Bool[Tensor, "tokens tokens"]:
    """True where the key is not later than the query."""
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


class GPT(nn.Module):
    """Embeddings, blocks, a norm, and a head that scores every next token (Radford et al. 2019)."""

    def __init__(self, vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int):
        super().__init__()
        self.embed = Embedding(vocabulary, d_model)
        self.positions = Embedding(context, d_model)
        self.blocks = nn.ModuleList(
            encoder.TransformerBlock(d_model, n_heads) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = Linear(d_model, vocabulary, bias=False)

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocabulary"]:
        n_tokens = ids.shape[1]
        positions = torch.arange(n_tokens, device=ids.device)
        x = self.embed(ids) + self.positions(positions[None, :])
        mask = causal_mask(n_tokens).to(ids.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))
