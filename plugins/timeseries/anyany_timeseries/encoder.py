"""The encoder: patches of values and of what is missing, a transformer along each column (PatchTST, arXiv 2211.14730).

Shapes: B series, C columns, P patches, L points per patch, N columns of all series, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anyany.parts import Media, TimeSeries
from anyany.plugin import Coordinates, Prepared
from anyany_timeseries import patches


class PatchEncoder(nn.Module):
    """One feature row per patch and column.

    Args:
        patch: Points per patch.
        width: Of a feature row.
        depth: Transformer blocks.
        heads: Of their attention.
    """

    def __init__(self, *, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.skip = nn.Linear(2 * patch, width)
        self.inner = nn.Sequential(nn.Linear(2 * patch, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.order = nn.Conv1d(width, width, 3, padding=1, groups=width)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def example(self, seed: int) -> TimeSeries:
        """Four days of a daily rhythm."""
        return patches.example(seed)

    def prepare(self, media: Media) -> Prepared:
        """Normalised patches ``(P, C, L)`` that end with the last value."""
        series = patches.series(media)
        cut = patches.cut(series, patches.units(series), self.patch, end=True)
        count, columns = cut.shape[:2]
        return Prepared(
            arrays={"patches": cut}, rows=count * columns,
            coordinates=Coordinates(values=patches.coordinates(count, columns)),
        )  # fmt: skip

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(sum of P * C, W)``."""
        kind = self.skip.weight
        each = [torch.from_numpy(p.arrays["patches"]).to(kind).transpose(0, 1) for p in batch]  # (C, P, L)
        columns = [column for item in each for column in item]
        lengths = torch.tensor([len(c) for c in columns], device=kind.device)
        x = pad_sequence(columns, batch_first=True)  # (N, P, L)
        x = torch.cat([x.nan_to_num(0.0), x.isfinite().to(kind)], dim=-1)
        x = self.skip(x) + self.inner(x)
        away = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        x = x.masked_fill(away[..., None], 0.0)
        x = x + self.order(x.transpose(1, 2)).transpose(1, 2)
        x = self.blocks(x, src_key_padding_mask=away)
        rows, first = [], 0
        for item in each:  # back to columns side by side
            count, length = item.shape[:2]
            rows.append(x[first : first + count, :length].transpose(0, 1).flatten(0, 1))
            first += count
        return torch.cat(rows)


def build_encoder(**config: int) -> PatchEncoder:
    """The factory of ``timeseries/patch``."""
    return PatchEncoder(**config)
