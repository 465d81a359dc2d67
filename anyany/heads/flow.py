"""Flow matching, row by row, and jointly over a span.

Rectified flow (Lipman et al. 2022, arXiv 2210.02747; Liu et al. 2022, arXiv 2209.03003): along
``x_t = (1 - t) * noise + t * data`` a network predicts the velocity ``data - noise``. Row by row, a small
MLP does it from the row's hidden state (MAR, arXiv 2406.11838). Jointly, the backbone itself does it, with
noised rows that see each other both ways (Transfusion, arXiv 2408.11039).

Shapes: n rows, d numbers per row, D model width, E inner width, B requests, G branches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.heads.base import HeadLoss, boundaries, end_loss, open_guidance
from anyany.heads.guidance import combine
from anyany.heads.sampling import sample_end
from anyany.heads.steps import Emission, EmitContext, Join, Picked, Sampling, Step
from anyany.heads.vectors import VectorHead, mean_present, present

REPEATS = 4
"""Times and noises per row and training step: the MLP is cheap beside the backbone."""


def time_features(t: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Sines and cosines of times ``(...,)`` in [0, 1]: ``(..., dim)``."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), dim // 2, device=t.device))
    angles = t[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(dtype)


class Velocity(nn.Module):
    """MLP with residual blocks that are modulated by the condition (AdaLN, arXiv 2212.09748)."""

    def __init__(self, dim: int, width: int, inner: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, inner)
        self.condition = nn.Linear(width, inner)
        self.time = nn.Sequential(nn.Linear(64, inner), nn.SiLU(), nn.Linear(inner, inner))
        self.norms = nn.ModuleList(nn.LayerNorm(inner, elementwise_affine=False) for _ in range(depth))
        self.shifts = nn.ModuleList(nn.Linear(inner, 3 * inner) for _ in range(depth))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(inner, 2 * inner), nn.SiLU(), nn.Linear(2 * inner, inner)) for _ in range(depth)
        )
        self.leave = nn.Linear(inner, dim)

    def forward(self, x: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
        """``x (..., d)``, times ``(...,)`` and condition ``(..., D)`` -> velocity ``(..., d)``."""
        dtype = self.enter.weight.dtype  # latents stay in float32 where the weights do not
        condition = F.silu(self.condition(hidden) + self.time(time_features(t, 64, dtype)))
        x = self.enter(x.to(dtype))
        for norm, shift, block in zip(self.norms, self.shifts, self.blocks, strict=True):
            scale, bias, gate = shift(condition).chunk(3, dim=-1)
            x = x + gate * block(norm(x) * (1 + scale) + bias)
        return self.leave(x)


class FlowHead(VectorHead):
    """Each row is drawn by integrating a velocity from noise."""

    def __init__(self, width: int, dim: int, *, inner: int = 256, depth: int = 2) -> None:
        super().__init__(width, dim)
        self.velocity = Velocity(dim, width, inner, depth)
        self.stop = nn.Linear(width, 1)

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Squared error of the velocity at random times, and of the end."""
        rows, _ = boundaries(lengths, hidden.device)
        condition = hidden[rows].expand(REPEATS, -1, -1)
        data, there = present(self.scale(latents).expand(REPEATS, -1, -1))
        noise = torch.randn_like(data)
        t = torch.sigmoid(torch.randn(data.shape[:-1], device=data.device))  # dense in the middle (SD3)
        x = (1 - t[..., None]) * noise + t[..., None] * data
        error = (self.velocity(x, t, condition).float() - (data - noise)).square()
        total = mean_present(error, there).sum() / REPEATS
        if not fixed:
            total = total + end_loss(self.stop(hidden)[:, 0], lengths)
        return HeadLoss(total, len(rows))

    def pick(
        self,
        hidden: Tensor,
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Vectors ``(B, d)`` by midpoint steps; the temperature scales the first noise."""
        noise = [
            rule.temperature * torch.randn(self.dim, generator=draw) for rule, draw in zip(rules, draws, strict=True)
        ]
        x = torch.stack(noise).to(hidden.device)  # (B, d)
        steps = torch.tensor([rule.steps for rule in rules], device=hidden.device)[:, None]
        dt = 1 / steps  # each request by its own number of steps; one that has arrived stays

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            branches = x[:, None].expand(-1, hidden.shape[1], -1)
            times = t.expand(branches.shape[:-1])
            return combine(self.velocity(branches, times, hidden).float(), rules)

        for step in range(int(steps.max())):
            t = step * dt
            moved = x + dt * velocity(x + 0.5 * dt * velocity(x, t), t + 0.5 * dt)
            x = torch.where(step < steps, moved, x)
        end, _ = sample_end(combine(self.stop(hidden).float(), rules)[:, 0], rules, draws, states)
        return Picked(self.scale.inverse(x), end)


class SpanFlowHead(VectorHead):
    """A whole span is denoised at once by the backbone; for spans of fixed length."""

    denoises = True

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(width, dim)
        self.noised = nn.Linear(dim, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.leave = nn.Linear(width, dim)

    def rows(self, x: Tensor, t: Tensor) -> Tensor:
        """Noised latents ``(n, d)`` at times ``(n,)`` -> rows ``(n, D)``."""
        dtype = self.noised.weight.dtype
        return self.noised(x.to(dtype)) + self.time(time_features(t, 64, dtype))

    def noise(
        self, latents: Tensor, lengths: Sequence[int], draw: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of noised copies, one time per span, and the velocities that they should give (NaN: any)."""
        scaled = self.scale(latents)
        data, _ = present(scaled)
        noise = torch.randn(data.shape, generator=draw).to(data)
        each = torch.sigmoid(torch.randn(len(lengths), generator=draw)).to(data)
        t = each.repeat_interleave(torch.tensor(list(lengths), device=data.device))
        return self.rows((1 - t[:, None]) * noise + t[:, None] * data, t), scaled - noise

    def loss_noised(self, hidden: Tensor, target: Tensor) -> HeadLoss:
        """Squared error of the velocity ``(n, d)``."""
        velocity, there = present(target)
        error = (self.leave(hidden).float() - velocity).square()
        return HeadLoss(mean_present(error, there).sum(), len(hidden))

    def emit(self, context: EmitContext) -> Emission:
        """Trial passes while the span is denoised, then one kept pass of the clean rows."""
        guided = yield from open_guidance(context)
        yield Step(self.begin[None], context.begin)
        n, rule = context.plan.rows, context.rule
        at = context.at(0, n)
        x = rule.temperature * torch.randn(n, self.dim, generator=context.draw).to(self.begin.device)
        for step in range(rule.steps):
            t = torch.full((n,), step / rule.steps, device=x.device)
            result = yield Step(self.rows(x, t), at, look="full", keep=False)
            x = x + combine(self.leave(result.hidden)[None].float(), [rule])[0] / rule.steps
        latents = self.scale.inverse(x)
        context.push(latents)
        yield Step(self.embed(latents), at, look="full")
        if guided:
            yield Join()
        return latents
