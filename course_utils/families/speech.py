"""Whisper, composed of our parts: an encoder that hears, and a decoder that writes.

Sound comes as a log-mel spectrogram: how loud each of some pitches is, a hundred times a second.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils import decoder, encoder
from course_utils.families import builders
from course_utils.families.config import Config, need, require
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

# --- From sound to frames ------------------------------------------------------------------------

RATE, WINDOW, HOP = 16000, 400, 160  # samples: a second, a frame, from one frame to the next


def mel(hertz: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The pitch of a frequency on Slaney's scale: even up to 1,000 Hz, then by the logarithm.

    Three mels are 200 Hz, and from 15 mels on 27 of them are a factor of 6.4 (Slaney 1998, Auditory
    Toolbox).
    """
    growth = (hertz.clamp_min(1000) / 1000).log() * 27 / math.log(6.4)
    return torch.where(hertz < 1000, hertz * 3 / 200, 15 + growth)


def hertz(mel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The frequency of a pitch: the inverse of `mel`."""
    growth = ((mel.clamp_min(15) - 15) * math.log(6.4) / 27).exp()
    return torch.where(mel < 15, mel * 200 / 3, 1000 * growth)


def mel_filters(n_mels: int) -> Float[Tensor, "n_mels frequencies"]:
    """Triangles over the frequencies of a window, evenly spaced in pitch, each of the same area."""
    highest = mel(torch.tensor(RATE / 2, dtype=torch.float64)).item()
    edges = hertz(torch.linspace(0, highest, n_mels + 2, dtype=torch.float64))
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    up, down = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return (torch.minimum(up, down).clamp_min(0) * 2 / (right - left)).float()


def log_mel(
    sound: Float[Tensor, "batch samples"], n_mels: int = 80
) -> Float[Tensor, "batch n_mels frames"]:
    """How loud each pitch is in every frame: what Whisper hears (Radford et al. 2022, §2.2).

    `sound` has 16,000 samples a second, and a frame every 160. What is more than 80 decibels below
    the loudest counts as that; then 10 decibels are 1/4.
    """
    window = torch.hann_window(WINDOW, device=sound.device)
    waves = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
    loud = mel_filters(n_mels).to(sound) @ waves.abs() ** 2
    logs = loud.clamp_min(1e-10).log10()
    return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8) + 4) / 4


# --- From frames to text -------------------------------------------------------------------------


class SoundEmbedding(nn.Module):
    """Frames as tokens, one for every two: each is made of its neighbours, twice."""

    def __init__(self, n_mels: int, d_model: int, positions: LearnedPositions):
        super().__init__()
        self.near = nn.Conv1d(n_mels, d_model, kernel_size=3, padding=1)
        self.halve = nn.Conv1d(d_model, d_model, kernel_size=3, padding=1, stride=2)
        self.positions = positions

    def forward(
        self, frames: Float[Tensor, "batch n_mels frames"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        n_frames, wanted = frames.shape[-1], 2 * len(self.positions.weight)
        if n_frames != wanted:
            raise ValueError(f"frames must be {wanted}, filled with silence, got {n_frames}")
        x = encoder.gelu(self.halve(encoder.gelu(self.near(frames))))
        return self.positions(x.transpose(1, 2))


def whisper(config: Config) -> decoder.Seq2Seq:
    """Whisper (Radford et al. 2022), not yet filled. Its source are frames, its head is tied.

    The places of frames are sinusoids that files carry and nobody trains.
    """
    need(config, "d_model", "vocab_size", "num_mel_bins")
    need(config, "max_source_positions", "max_target_positions")
    need(config, "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    need(config, "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    require(config, activation_function="gelu", scale_embedding=False)
    d_model = config["d_model"]
    tokens = Embedding(config["vocab_size"], d_model)
    return decoder.Seq2Seq(
        encoder.Encoder(_frames(config), _encoder_blocks(config), encoder.LayerNorm(d_model)),
        InputEmbedding(tokens, LearnedPositions(config["max_target_positions"], d_model)),
        _decoder_blocks(config),
        encoder.LayerNorm(d_model),
        builders.head(tokens, config, bias=False),
    )


def _frames(config: Config) -> SoundEmbedding:
    places = LearnedPositions(config["max_source_positions"], config["d_model"])
    places.weight.requires_grad_(False)
    return SoundEmbedding(config["num_mel_bins"], config["d_model"], places)


def _attention(d_model: int, n_heads: int) -> builders.MappedAttention:
    """Attention whose keys have no bias: it would change all scores of a query alike."""
    return builders.MappedAttention(
        n_heads,
        Linear(d_model, d_model),
        Linear(d_model, d_model, bias=False),
        Linear(d_model, d_model),
        Linear(d_model, d_model),
    )


def _encoder_blocks(config: Config) -> list[encoder.TransformerBlock]:
    d_model = config["d_model"]
    return [
        encoder.TransformerBlock(
            _attention(d_model, config["encoder_attention_heads"]),
            encoder.FeedForward(d_model, config["encoder_ffn_dim"]),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
        )
        for _ in range(config["encoder_layers"])
    ]


def _decoder_blocks(config: Config) -> list[decoder.DecoderBlock]:
    d_model = config["d_model"]
    return [
        decoder.DecoderBlock(
            _attention(d_model, config["decoder_attention_heads"]),
            _attention(d_model, config["decoder_attention_heads"]),
            encoder.FeedForward(d_model, config["decoder_ffn_dim"]),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
        )
        for _ in range(config["decoder_layers"])
    ]
