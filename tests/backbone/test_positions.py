"""Positions: rotary over one or three axes, ready-made frequencies, learned tables."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding, apply_rotary_pos_emb

from anyany.backbone.positions import LearnedPositions, Rotary, rotate
from anyany.errors import LayoutError


def text(positions) -> torch.Tensor:
    return torch.as_tensor(positions, dtype=torch.float32)[:, None].expand(-1, 3)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_halves_turn_as_complex_numbers():
    rotary, x = Rotary(8, theta=50.0), drawn(5, 3, 8)
    found = rotate(x, *rotary(text([0, 1, 2, 7, 30])))
    angles = torch.tensor([0.0, 1, 2, 7, 30])[:, None] * torch.tensor([50.0 ** (-i / 4) for i in range(4)])
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(5, 4), angles)[:, None]
    torch.testing.assert_close(found, torch.cat([turned.real, turned.imag], dim=-1))


def test_scores_depend_on_distance_alone():
    rotary, q, k = Rotary(16), drawn(1, 1, 16), drawn(2, 1, 16)[1:]

    def score(at: float, to: float) -> torch.Tensor:
        return (rotate(q, *rotary(text([at]))) * rotate(k, *rotary(text([to])))).sum()

    torch.testing.assert_close(score(9, 4), score(105, 100), rtol=1e-4, atol=1e-5)
    assert (score(9, 4) - score(9, 5)).abs() > 1e-3


def test_sections_turn_with_their_axis():
    """Against the three-axis rotary embedding of Qwen2-VL."""
    sections, x = (3, 2, 3), drawn(6, 2, 16)
    at = torch.randint(0, 40, (6, 3), generator=torch.Generator().manual_seed(1)).float()
    found = rotate(x, *Rotary(16, theta=100.0, sections=sections)(at))
    rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": list(sections)}
    theirs = Qwen2VLRotaryEmbedding(Qwen2VLTextConfig(hidden_size=32, num_attention_heads=2, rope_parameters=rope))
    heads = x.permute(1, 0, 2)[None]  # (1, H, T, Dh)
    want, _ = apply_rotary_pos_emb(heads, heads, *theirs(heads, at.T[:, None]))
    torch.testing.assert_close(found, want[0].permute(1, 0, 2))


def test_text_is_the_same_with_and_without_sections():
    for a, b in zip(Rotary(16)(text(range(9))), Rotary(16, sections=(3, 2, 3))(text(range(9))), strict=True):
        assert torch.equal(a, b)


def test_one_axis_takes_the_first_coordinate():
    at = torch.tensor([[2.0, 9.0, 9.0]])
    assert torch.equal(Rotary(8)(at)[0], Rotary(8)(text([2]))[0])


def test_ready_made_frequencies():
    cos, sin = Rotary(4, frequencies=torch.tensor([0.5, 0.25]))(text([2]))
    angles = torch.tensor([[[1.0, 0.5]]])
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())


def test_frequencies_stay_exact_when_the_model_is_halved():
    """In bfloat16 a frequency would be off by whole turns some thousand rows into the sequence."""
    rotary = Rotary(16)
    exact = rotary(text([5000]))
    for change in (lambda r: r.to(torch.bfloat16), lambda r: r.half(), lambda r: r.double()):
        rotary = change(rotary)
        assert all(torch.equal(a, b) for a, b in zip(rotary(text([5000])), exact, strict=True))
    assert rotate(drawn(1, 1, 16).bfloat16(), *exact).dtype == torch.bfloat16


def test_frequencies_are_real_where_weights_are_not():
    with torch.device("meta"):
        rotary = Rotary(8, sections=(2, 1, 1))
    assert torch.equal(rotary(text([3]))[0], Rotary(8, sections=(2, 1, 1))(text([3]))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head_dim": 7}, "even head width, got 7"),
        ({"head_dim": 8, "sections": (2, 1)}, r"three sections must add up to 4, got \[2, 1\]"),
        ({"head_dim": 8, "sections": (2, 1, 2)}, "must add up to 4"),
        ({"head_dim": 8, "frequencies": torch.ones(3)}, r"expected 4 frequencies, got shape \(3,\)"),
    ],
)
def test_numbers_that_do_not_fit(arguments, message):
    with pytest.raises(LayoutError, match=message):
        Rotary(**arguments)


def test_learned_positions_are_rows_of_a_table():
    learned, x = LearnedPositions(10, 4), drawn(3, 4)
    found = learned(x, text([0, 9, 4]))
    torch.testing.assert_close(found, x + learned.table.weight[[0, 9, 4]])
    assert learned(x[:0], text([])).shape == (0, 4)
    with pytest.raises(LayoutError, match="11 needed, the backbone has 10"):
        learned(x[:1], text([10]))
