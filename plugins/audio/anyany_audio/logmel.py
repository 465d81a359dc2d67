"""The encoder: log-mel rows, convolutions within a row, a transformer across rows.

Shapes: B sounds, n rows of one sound, N rows of all, F frames per row, M mel bands, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anyany.parts import Audio, Media
from anyany.plugin import Coordinates, Prepared
from anyany_audio import spectrum
from anyany_audio.spectrum import FRAMES, MELS, Spectrum


class LogMelEncoder(nn.Module):
    """One feature row per 80 ms.

    Args:
        rate: Samples a second that it works at.
        width: Of a feature row.
        depth: Transformer blocks.
        heads: Of their attention.
    """

    def __init__(self, *, rate: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.width, self.spectrum = width, Spectrum(rate)
        self.stem = nn.Sequential(  # (N, 1, 2 F, M): a row and half of each neighbour
            nn.Conv2d(1, 32, 3, padding=1), nn.GELU(),
            nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.GELU(),
            nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.GELU(),
            nn.Conv2d(64, 32, 3, padding=1, stride=(1, 2)), nn.GELU(), nn.Flatten(),
            nn.Linear(32 * FRAMES // 2 * MELS // 8, width),
        )  # fmt: skip
        # Where a row lies in its sound; the backbone's own coordinates come later.
        self.order = nn.Conv1d(width, width, 3, padding=1, groups=width)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def example(self, seed: int) -> Audio:
        """Half a second of tones."""
        return spectrum.example(seed, self.spectrum.rate)

    def prepare(self, media: Media) -> Prepared:
        """Log-mel frames ``(n * F, M)``; rows lie 80 ms apart."""
        mels = self.spectrum.mels(self.spectrum.magnitudes(self.spectrum.wave(media)))
        rows = len(mels) // FRAMES
        values = spectrum.seconds(rows, self.spectrum.rows_per_second)
        return Prepared(
            arrays={"mels": mels.numpy()}, rows=rows, coordinates=Coordinates(values=values, unit="seconds")
        )

    def _rows(self, mels: Tensor) -> Tensor:
        """``(n * F, M)`` -> ``(n, 2 F, M)``: each row with half of its neighbours."""
        half = FRAMES // 2
        halves = mels.view(-1, half, MELS)
        return spectrum.windows(halves, 1, 2)[::2].flatten(1, 2)

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(N, W)``."""
        kind = self.order.weight
        mels = [torch.from_numpy(p.arrays["mels"]).to(kind) for p in batch]
        x = self.stem(torch.cat([self._rows(m) for m in mels])[:, None])  # (N, W)
        lengths = [p.rows for p in batch]
        padded = pad_sequence(list(x.split(lengths)), batch_first=True)  # (B, n, W)
        padded = padded + self.order(padded.transpose(1, 2)).transpose(1, 2)
        away = torch.arange(padded.shape[1], device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
        return self.blocks(padded, src_key_padding_mask=away)[~away]


def build_encoder(**config: int) -> LogMelEncoder:
    """The factory of ``audio/logmel``."""
    return LogMelEncoder(**config)
