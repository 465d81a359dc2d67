"""The codec: mel frames -> a few codes per row -> the spectrum, and phases by Griffin-Lim.

Every row is coded with its neighbours in view and decoded with two rows to each side in view, so that a
stream of codes can be turned into sound while it comes.

Shapes: n rows, F frames per row, M mel bands, K frequency bins, Q numbers before quantisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.parts import Audio, Media
from anyany.plugin import Codes, Coordinates, Plan, Prepared
from anyany_audio import spectrum
from anyany_audio.quantise import ProductFSQ
from anyany_audio.spectrum import FRAMES, MELS, Spectrum

CONTEXT = 2
BLOCK = 8
"""Rows whose sound is made at once."""


class SpeechCodec(nn.Module):
    """Sound <-> ``(rows, books)`` codes, 12.5 rows a second.

    Args:
        rate: Samples a second.
        levels: Of the numbers of one book.
        books: Codes per row.
        width: Of the hidden layers.
        seconds: Longest sound that is generated.
    """

    def __init__(self, *, rate: int, levels: Sequence[int], books: int, width: int, seconds: float) -> None:
        super().__init__()
        self.spectrum, self.seconds = Spectrum(rate), seconds
        self.quantiser = ProductFSQ(levels, books)
        self.latents = Codes(vocab=self.quantiser.vocab, books=books)
        self.down = nn.Sequential(  # (n, 3 F M): a row and its neighbours
            nn.Linear(3 * FRAMES * MELS, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, self.quantiser.dim),
        )  # fmt: skip
        self.up = nn.Sequential(  # (n, (2 CONTEXT + 1) Q)
            nn.Linear((2 * CONTEXT + 1) * self.quantiser.dim, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, FRAMES * self.spectrum.bins),
        )  # fmt: skip

    def example(self, seed: int) -> Audio:
        """Half a second of tones."""
        return spectrum.example(seed, self.spectrum.rate)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Mel frames ``(n * F, M)`` for the codes, log magnitudes ``(n * F, K)`` for the loss."""
        magnitudes = self.spectrum.magnitudes(self.spectrum.wave(media))
        mels, rows = self.spectrum.mels(magnitudes), len(magnitudes) // FRAMES
        return Prepared(
            arrays={"mels": mels.numpy(), "logs": self.spectrum.logs(magnitudes).numpy()},
            rows=rows, coordinates=self._coordinates(rows),
        )  # fmt: skip

    def plan(self, like: Media | None = None) -> Plan:
        """Up to ``seconds``; the model decides the end."""
        rows = round(self.seconds * self.spectrum.rows_per_second)
        return Plan(rows=rows, fixed=False, coordinates=self._coordinates(rows))

    def _coordinates(self, rows: int) -> Coordinates:
        return Coordinates(values=spectrum.seconds(rows, self.spectrum.rows_per_second), unit="seconds")

    def _quantise(self, batch: Sequence[Prepared]) -> list[Tensor]:
        """``(n, Q)`` of each item, all items in one pass."""
        kind = self.down[0].weight
        rows = [torch.from_numpy(p.arrays["mels"]).to(kind).view(-1, FRAMES * MELS) for p in batch]
        x = torch.cat([spectrum.windows(r, 1, 1).flatten(1) for r in rows])
        return list(self.quantiser(self.down(x)).split([p.rows for p in batch]))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(sum of n, books)``."""
        return self.quantiser.codes(torch.cat(self._quantise(batch)))

    def _logs(self, spans: Sequence[Tensor]) -> Tensor:
        """Quantised rows ``(n, Q)`` of each span -> log magnitudes ``(sum of n * F, K)``."""
        x = torch.cat([spectrum.windows(s, CONTEXT, CONTEXT).flatten(1) for s in spans])
        return self.up(x).view(-1, self.spectrum.bins)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Absolute error of the log magnitudes, and squared error of the magnitudes themselves where it is loud."""
        target = torch.cat([torch.from_numpy(p.arrays["logs"]) for p in batch])
        logs = self._logs(self._quantise(batch))
        target = target.to(logs)
        return {"spectrum": F.l1_loss(logs, target), "peaks": 0.5 * F.mse_loss(logs.exp(), target.exp())}

    def decode(self, latents: Tensor, like: Media | None = None) -> Audio:
        """Codes ``(n, books)`` -> sound at the codec's rate; what ``stream`` gives, joined."""
        stream = self.stream(like)
        chunks = [c for c in (stream.push(latents), stream.close()) if c is not None]
        return Audio.from_array(torch.cat([torch.from_numpy(c.mono()) for c in chunks]).numpy(), self.spectrum.rate)

    def stream(self, like: Media | None = None) -> SpeechStream:
        """Sound in blocks of 8 rows, as soon as two rows beyond a block are known."""
        return SpeechStream(self)


class SpeechStream:
    """Codes -> sound, block by block; neighbouring blocks are joined by a short cross-fade."""

    def __init__(self, codec: SpeechCodec) -> None:
        self.codec = codec
        self.rows: list[Tensor] = []
        self.made = 0  # rows whose sound was handed out
        self.tail: Tensor | None = None  # sound of the last block that the next one fades out of

    def push(self, latents: Tensor) -> Audio | None:
        """Take ``(n, books)`` more codes; return the sound of the blocks that are complete."""
        self.rows.extend(latents)
        blocks = []
        while len(self.rows) - self.made > BLOCK + CONTEXT:
            blocks.append(self._block(self.made + BLOCK))
        return self._audio(blocks)

    def close(self) -> Audio | None:
        """The rest."""
        return self._audio([self._block(len(self.rows))] if len(self.rows) > self.made else [])

    @torch.no_grad()
    def _block(self, stop: int) -> Tensor:
        """Sound of rows ``[made, stop)``; it is made with the neighbouring rows and cut."""
        low, high = max(0, self.made - CONTEXT), min(len(self.rows), stop + CONTEXT)
        wide = max(0, low - CONTEXT)
        codec, row = self.codec, self.codec.spectrum.row
        values = codec.quantiser.values(torch.stack(self.rows[wide:high])).to(codec.up[0].weight)
        logs = codec._logs([values])[(low - wide) * FRAMES :]
        wave = codec.spectrum.synthesise(logs.float().cpu())
        fade = row // 4
        own = wave[(self.made - low) * row : (stop - low) * row].clone()
        if self.tail is not None:
            ramp = torch.linspace(0.0, 1.0, fade)
            own[:fade] = own[:fade] * ramp + self.tail * (1 - ramp)
        after = wave[(stop - low) * row :]
        self.tail = after[:fade] if len(after) >= fade else None
        self.made = stop
        return own

    def _audio(self, blocks: list[Tensor]) -> Audio | None:
        return Audio.from_array(torch.cat(blocks).numpy(), self.codec.spectrum.rate) if blocks else None


def build_codec(**config: object) -> SpeechCodec:
    """The factory of ``audio/melcodes``."""
    return SpeechCodec(**config)  # type: ignore[arg-type]
