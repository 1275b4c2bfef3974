"""The transformer block: attention mixes the tokens, the feed-forward net works on each of them."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention
from course_utils.projection import Linear


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, alike for every token (Vaswani et al. 2017, §3.3)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.up = Linear(d_model, d_hidden)
        self.down = Linear(d_hidden, d_model)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(F.gelu(self.up(x)))


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads the normalised stream and adds to it (pre-norm)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = attention.MultiHeadAttention(d_model, n_heads)
        self.norm2 = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, 4 * d_model)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.feed_forward(self.norm2(x))
