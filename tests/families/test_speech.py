"""Sound becomes the frames that Whisper hears, and a model says how many it must have."""

import pytest
import torch

from course_utils import sampling
from course_utils.families import cached, speech


def test_pitches_go_there_and_back() -> None:
    hertz = torch.tensor([0.0, 200, 500, 1000, 1600, 8000], dtype=torch.float64)
    pitches = speech.mel(hertz)
    assert pitches[:4].tolist() == [0, 3, 7.5, 15]
    torch.testing.assert_close(speech.hertz(pitches), hertz)
    torch.testing.assert_close(speech.mel(6.4 * hertz[3:4]), pitches[3:4] + 27)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_those_of_whisper(n_mels: int) -> None:
    utilities = pytest.importorskip("transformers.audio_utils", reason='pip install -e ".[parity]"')
    wanted = utilities.mel_filter_bank(201, n_mels, 0.0, 8000.0, 16000, "slaney", "slaney")
    found = speech.mel_filters(n_mels)
    torch.testing.assert_close(found, torch.tensor(wanted).T.float(), rtol=1e-5, atol=1e-8)


def sounds() -> torch.Tensor:
    """A tone that rises, one of two pitches with noise, and silence, each half a second."""
    seconds = torch.arange(8000) / speech.RATE
    rising = torch.sin(2 * torch.pi * (300 + 2000 * seconds) * seconds)
    noise = 0.01 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    two = 0.3 * torch.sin(2 * torch.pi * 440 * seconds) + noise
    return torch.stack((rising, two, torch.zeros(8000)))


@pytest.mark.parametrize("n_mels", [80, 128])
def test_frames_are_those_of_whisper(n_mels: int) -> None:
    extraction = pytest.importorskip(
        "transformers.models.whisper.feature_extraction_whisper",
        reason='pip install -e ".[parity]"',
    )
    extract = extraction.WhisperFeatureExtractor(feature_size=n_mels)
    wanted = extract(list(sounds().numpy()), sampling_rate=16000, padding="longest")
    found = speech.log_mel(sounds(), n_mels)
    assert found.shape == (3, n_mels, 50)
    theirs = torch.as_tensor(wanted["input_features"])
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-4)


def test_a_pure_tone_is_loudest_at_its_pitch() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / speech.RATE)
    loudest = speech.log_mel(tone[None])[0, :, 25].argmax().item()
    assert speech.mel_filters(80)[loudest].argmax().item() == 1000 * speech.WINDOW // speech.RATE


SIZES = {
    "vocab_size": 7,
    "num_mel_bins": 80,
    "d_model": 12,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 20,
    "decoder_layers": 2,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 20,
    "max_source_positions": 25,
    "max_target_positions": 16,
}


def test_sound_is_written_down_from_a_cache() -> None:
    torch.manual_seed(0)
    model, frames = speech.whisper(SIZES).eval(), speech.log_mel(sounds())
    start = torch.ones(3, 1, dtype=torch.long)
    wanted = sampling.generate(lambda ids: model(frames, ids), start, 12, sampling.greedy)
    hears = cached.CachedSeq2Seq(model, 16, frames)
    assert torch.equal(sampling.generate(hears, start, 12, sampling.greedy), wanted)


def test_frames_must_be_as_many_as_there_are_places_for() -> None:
    model = speech.whisper(SIZES)
    with pytest.raises(ValueError, match="frames must be 50, filled with silence, got 30"):
        model(torch.zeros(1, 80, 30), torch.ones(1, 1, dtype=torch.long))
