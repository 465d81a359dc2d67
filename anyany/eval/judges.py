"""Judges of digits, drawn and spoken: small convolutional networks, trained on real training splits only.

They are trained once, by ``python -m anyany.eval.judges``, and kept in ``$XDG_CACHE_HOME/anyany``.

Shapes: B items, H, W pixels, or mel bands and moments.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anyany.media.packages import need
from anyany.mini import augment, files
from anyany.parts import Audio, Image

RATE, BANDS, MOMENTS = 8000, 40, 48


class Judge(nn.Module):
    """``(B, 1, H, W)`` -> logits of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveMaxPool2d(4), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(1024, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, 10)``."""
        return self.layers(x)

    @torch.inference_mode()
    def digits(self, x: Tensor) -> list[int]:
        """Its verdicts."""
        return [int(d) for block in x.split(500) for d in self(block).argmax(dim=1)]


def drawn(images: Sequence[Image]) -> Tensor:
    """Pictures of any size as ``(B, 1, 28, 28)``."""
    pillow = need("PIL.Image", "pillow")
    grey = [pillow.fromarray(i.pixels).convert("L").resize((28, 28), pillow.Resampling.BICUBIC) for i in images]
    return torch.from_numpy(np.stack([np.asarray(g, np.float32) for g in grey]))[:, None] / 255


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Triangles on the mel scale, ``(129, BANDS)``."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, 129)[:, None]
    rise = (bins - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - bins) / np.diff(edges)[1:]
    return torch.from_numpy(np.maximum(0, np.minimum(rise, fall)).astype(np.float32))


def spoken(sounds: Sequence[Audio]) -> Tensor:
    """Sounds as log-mel pictures ``(B, 1, BANDS, MOMENTS)``; silence at the ends is cut, the rest is stretched."""
    return torch.stack([_mel(a) for a in sounds])


def _mel(audio: Audio) -> Tensor:
    wave = torch.from_numpy(audio.mono())
    if audio.rate != RATE:
        wave = F.interpolate(wave[None, None], size=max(1, round(len(wave) * RATE / audio.rate)), mode="linear")[0, 0]
    wave = F.pad(wave, (0, max(0, 512 - len(wave))))
    frames = torch.stft(wave, 256, 80, window=torch.hann_window(256), return_complex=True).abs().square()
    mel = (frames.T @ _filters()).clamp(min=1e-10).log()  # (moments, bands)
    loud = mel.exp().sum(dim=1)
    kept = torch.nonzero(loud > loud.max() * 1e-3)[:, 0]
    mel = mel[int(kept[0]) : int(kept[-1]) + 1]
    mel = mel.clamp(min=float(mel.max()) - 14)
    mel = (mel - mel.mean()) / mel.std().clamp(min=1e-3)
    return F.interpolate(mel.T[None, None], size=(BANDS, MOMENTS), mode="bilinear", align_corners=False)[0]


def train_drawn() -> tuple[Judge, float]:
    """The judge of pictures and its accuracy on real test pictures."""
    images, labels = files.mnist("train")

    def batch(draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        index = draw.integers(0, len(images), 128)
        x = torch.from_numpy(images[index].astype(np.float32) / 255)[:, None]
        down, across = (int(s) for s in draw.integers(-2, 3, 2))
        return torch.roll(x, (down, across), dims=(2, 3)), torch.from_numpy(labels[index].astype(np.int64))

    test, truth = files.mnist("t10k")
    return _train(batch, 1400, drawn([Image.from_array(i) for i in test]), truth.tolist())


def train_spoken() -> tuple[Judge, float]:
    """The judge of speech and its accuracy on real test recordings; it hears all speakers' training splits."""
    records = [r for r in files.spoken() if r.index >= 5]
    test = [r for r in files.spoken() if r.index < 5]
    draw = np.random.default_rng(0)
    heard = torch.cat(
        [spoken([r.audio for r in records]), *(spoken([augment.speech(draw, r.audio) for r in records]) for _ in "xxx")]
    )
    labels = torch.tensor([r.digit for r in records] * 4)

    def batch(draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(draw.integers(0, len(heard), 64))
        x = heard[index].clone()
        low = int(draw.integers(0, BANDS - 8))
        x[:, :, low : low + int(draw.integers(0, 8))] = 0  # what SpecAugment (arXiv 1904.08779) does
        return x, labels[index]

    return _train(batch, 1200, spoken([r.audio for r in test]), [r.digit for r in test])


def _train(
    batch: Callable[[np.random.Generator], tuple[Tensor, Tensor]], steps: int, test: Tensor, truth: list[int]
) -> tuple[Judge, float]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge, draw = Judge(), np.random.default_rng(0)
        optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
        for _ in range(steps):
            x, y = batch(draw)
            loss = F.cross_entropy(judge(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval()
    verdicts = judge.digits(test)
    return judge, float(np.mean([a == b for a, b in zip(verdicts, truth, strict=True)]))


KINDS = {"drawn": train_drawn, "spoken": train_spoken}


@lru_cache(maxsize=2)
def judge(kind: str) -> tuple[Judge, str]:
    """A judge and what it says of itself; trained at first use, then read from the cache."""
    source = hashlib.sha256(inspect.getsource(inspect.getmodule(Judge)).encode()).hexdigest()[:12]  # type: ignore[arg-type]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anyany"
    path = cache / f"judge-{kind}-{source}.safetensors"
    if path.exists():
        tensors = load_file(path)
        made = Judge()
        accuracy = float(tensors.pop("accuracy"))
        made.load_state_dict(tensors)
        made.eval()
    else:
        made, accuracy = KINDS[kind]()
        cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({**made.state_dict(), "accuracy": torch.tensor(accuracy)}, temporary)
        temporary.replace(path)
    return made, f"CNN on real {kind} digits, {accuracy:.3f} on real test data"


if __name__ == "__main__":
    for name in KINDS:
        print(f"{name}: {judge(name)[1]}")
