"""Blocks and the whole stack against plain formulas and GPT-2; documents of a batch never meet."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from backbone import reference
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from anyany.backbone import Backbone, BackboneConfig, build
from anyany.backbone.experts import Experts
from anyany.errors import CheckpointError

WIDTH = 24
CASES = {
    "mha": {"heads": 4},
    "gqa": {"heads": 4, "kv_heads": 2},
    "mqa": {"heads": 6, "kv_heads": 1},
    "wide heads": {"heads": 2, "head_dim": 20},
    "biases": {"heads": 4, "kv_heads": 2, "qkv_bias": True, "out_bias": True, "ff_bias": True},
    "query and key norms": {"heads": 4, "kv_heads": 2, "qk_norm": True},
    "layer norm, gelu": {"heads": 4, "norm": "layer", "ff": "gelu", "ff_bias": True, "norm_eps": 1e-3},
    "layer norms of heads": {"heads": 4, "norm": "layer", "qk_norm": True},
    "learned": {"heads": 4, "positions": "learned", "max_positions": 40},
    "no positions": {"heads": 4, "kv_heads": 2, "positions": "none"},
    "sections": {"heads": 2, "sections": (3, 2, 1), "theta": 30.0},
    "windows": {"heads": 4, "window": (3, 0)},
    "hidden": {"heads": 4, "hidden": 50},
    "norms behind, over all heads": {"heads": 4, "kv_heads": 2, "norms": "post", "qk_norm": "whole"},
    "norms on both sides": {"heads": 4, "norms": "both", "norm": "rms_plus_one", "ff": "geglu", "qk_norm": True},
    "capped and scaled scores": {"heads": 4, "score_cap": 0.9, "score_scale": (0.7, 0.2)},
    "two bases": {"heads": 4, "window": (0, 4), "theta": 300.0, "local_theta": 20.0, "rotary_scale": 1.3},
    "part of a head, one layer unturned": {"heads": 3, "rotary_dim": 6, "unturned_layers": (0,)},
    "experts": {"heads": 4, "experts": 5, "experts_chosen": 2, "experts_hidden": 20},
    "experts with shares of their own": {
        "heads": 4,
        "experts": 4,
        "experts_chosen": 3,
        "experts_hidden": 9,
        "experts_renormalise": False,
        "dense_layers": (0,),
    },
}


def make(**changes) -> Backbone:
    torch.manual_seed(0)
    backbone = build(BackboneConfig(width=WIDTH, layers=2, **changes)).double()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1).add_(0.3 * torch.randn_like(parameter))
    return backbone


@pytest.fixture(params=CASES)
def backbone(request) -> Backbone:
    return make(**CASES[request.param])


def drawn(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def causal(*lengths: int) -> tuple[Tensor, Tensor]:
    """Coordinates and intervals of packed documents."""
    starts = torch.cat([torch.full((n,), sum(lengths[:i]), dtype=torch.int32) for i, n in enumerate(lengths)])
    rows = torch.arange(sum(lengths), dtype=torch.int32)
    intervals = torch.zeros(len(rows), 2, 2, dtype=torch.int32)
    intervals[:, 1, 0], intervals[:, 1, 1] = starts, rows + 1
    return (rows - starts).float()[:, None].expand(-1, 3), intervals


# The same numbers, written down another way.


def norm(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        x = x - x.mean(dim=-1, keepdim=True)
        return x / (x.square().mean(dim=-1, keepdim=True) + module.eps).sqrt() * module.weight + module.bias
    weight = module.weight + (1 if type(module).__name__ == "PlusOneRMSNorm" else 0)
    return x / (x.square().mean(dim=-1, keepdim=True) + module.eps).sqrt() * weight


def gelu(y: Tensor) -> Tensor:
    return 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


def routed(config: BackboneConfig, module: nn.Module, x: Tensor) -> Tensor:
    """Row by row, expert by expert."""
    rows = []
    for row in x:
        logits = module.router.weight @ row
        odds = logits.exp() / logits.exp().sum()
        best = sorted(range(config.experts), key=lambda e: -odds[e].item())[: config.experts_chosen]
        total = sum(odds[e] for e in best) if config.experts_renormalise else 1.0
        out = 0.0
        for e in best:
            gate, up = (module.experts_gate_up[e] @ row).chunk(2)
            out = out + odds[e] / total * (module.experts_down[e] @ (gate / (1 + torch.exp(-gate)) * up))
        rows.append(out)
    return torch.stack(rows)


def feed_forward(config: BackboneConfig, module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, Experts):
        return routed(config, module, x)
    if config.ff == "gelu":
        y = gelu(F.linear(x, module.up.weight, module.up.bias))
    else:
        half = len(module.gate_up.weight) // 2
        bias = (None, None) if module.gate_up.bias is None else module.gate_up.bias.split(half)
        gate, up = (F.linear(x, w, b) for w, b in zip(module.gate_up.weight.split(half), bias, strict=True))
        y = (gelu(gate) if config.ff == "geglu" else gate / (1 + torch.exp(-gate))) * up
    return F.linear(y, module.down.weight, module.down.bias)


def turned(config: BackboneConfig, layer: int, x: Tensor, at: Tensor) -> Tensor:
    """Rotary embedding ``(T, Dh)`` of one head, pair by pair."""
    if layer in config.unturned_layers:
        return x
    local = config.local_theta and config.window[layer]
    theta, scale = (config.local_theta, 1.0) if local else (config.theta, config.rotary_scale)
    half = (config.rotary_dim or x.shape[1]) // 2
    axes = [a for a, n in enumerate(config.sections or (half,)) for _ in range(n)]
    out = x.clone()
    for i, axis in enumerate(axes):
        angle = (at[:, axis] * torch.tensor(theta) ** (-torch.tensor(float(i)) / half)).double()
        out[:, i] = (x[:, i] * angle.cos() - x[:, i + half] * angle.sin()) * scale
        out[:, i + half] = (x[:, i + half] * angle.cos() + x[:, i] * angle.sin()) * scale
    return out


def attend(config: BackboneConfig, layer: int, mixer: nn.Module, x: Tensor, at: Tensor, seen: Tensor) -> Tensor:
    """Head by head, over a dense mask ``(T, T)``."""
    heads, keys = config.heads, config.kv_heads or config.heads
    width = config.head_dim or config.width // heads
    pieces = F.linear(x, mixer.qkv.weight, mixer.qkv.bias).split(width, dim=1)
    windows = config.window if isinstance(config.window, tuple) else (config.window,) * config.layers
    if windows[layer]:
        rows = torch.arange(len(x))
        seen = seen & (rows[None] > rows[:, None] - windows[layer])
    scale = config.score_scale[layer] if config.score_scale else 1 / math.sqrt(width)
    if config.qk_norm == "whole":
        q, k = (norm(n, torch.cat(p, 1)) for n, p in (
            (mixer.query_norm, pieces[:heads]), (mixer.key_norm, pieces[heads : heads + keys])
        ))  # fmt: skip
        pieces = (*q.split(width, 1), *k.split(width, 1), *pieces[heads + keys :])
    outs = []
    for head in range(heads):
        q, k = pieces[head], pieces[heads + head * keys // heads]
        v = pieces[heads + keys + head * keys // heads]
        if config.qk_norm is True:
            q, k = norm(mixer.query_norm, q), norm(mixer.key_norm, k)
        if config.positions == "rope":
            q, k = turned(config, layer, q, at), turned(config, layer, k, at)
        scores = q @ k.T * scale
        if config.score_cap:
            scores = config.score_cap * torch.tanh(scores / config.score_cap)
        outs.append(scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ v)
    return F.linear(torch.cat(outs, dim=1), mixer.out.weight, mixer.out.bias)


def plain(backbone: Backbone, x: Tensor, at: Tensor, intervals: Tensor) -> Tensor:
    config = backbone.config
    if config.positions == "learned":
        x = x + backbone.learned.table.weight[at[:, 0].long()]
    seen = reference.visible(intervals, len(x))
    for layer, block in enumerate(backbone.blocks):
        y = x if config.norms == "post" else norm(block.mixer_norm, x)
        y = attend(config, layer, block.mixer, y, at, seen)
        x = x + (y if config.norms == "pre" else norm(block.mixer_after, y))
        y = x if config.norms == "post" else norm(block.ff_norm, x)
        y = feed_forward(config, block.ff, y)
        x = x + (y if config.norms == "pre" else norm(block.ff_after, y))
    return norm(backbone.norm, x)


@torch.no_grad()
def test_the_stack_is_its_formula(backbone):
    at, intervals = causal(11, 6)
    at = at + torch.tensor([0.0, 3.0, 5.0])  # three different axes
    intervals[4:8, 1, 1] = 8  # a span that looks both ways
    x = drawn(17)
    # Rotary angles are float32.
    torch.testing.assert_close(backbone(x, at, intervals), plain(backbone, x, at, intervals), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_gpt2_is_one_configuration():
    torch.manual_seed(0)
    theirs = GPT2Model(GPT2Config(vocab_size=30, n_positions=20, n_embd=WIDTH, n_layer=2, n_head=4)).eval()
    for parameter in theirs.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    config = BackboneConfig(
        width=WIDTH, layers=2, heads=4, hidden=4 * WIDTH, norm="layer", norm_eps=1e-5, ff="gelu", positions="learned",
        qkv_bias=True, out_bias=True, ff_bias=True, max_positions=20,
    )  # fmt: skip
    ours = build(config)
    names = {"mixer_norm": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.out": "attn.c_proj", "ff_norm": "ln_2"}
    names |= {"ff.up": "mlp.c_fc", "ff.down": "mlp.c_proj"}
    pairs = {"norm": "ln_f"} | {f"blocks.{i}.{a}": f"h.{i}.{b}" for i in range(2) for a, b in names.items()}
    for own, other in pairs.items():
        source, target = theirs.get_submodule(other), ours.get_submodule(own)
        target.weight.copy_(source.weight if "norm" in own else source.weight.T)
        target.bias.copy_(source.bias)
    ours.learned.table.weight.copy_(theirs.wpe.weight)
    ids = torch.randint(0, 30, (14,))
    want = theirs(ids[None]).last_hidden_state[0]
    torch.testing.assert_close(ours(theirs.wte(ids), *causal(14)), want, rtol=0, atol=2e-5)


# Documents of a batch never meet.


@torch.no_grad()
def test_packed_is_alone(backbone):
    lengths = (7, 1, 12, 5)
    x = drawn(sum(lengths))
    alone = torch.cat([backbone(part, *causal(len(part))) for part in x.split(lengths)])
    torch.testing.assert_close(backbone(x, *causal(*lengths)), alone, rtol=1e-10, atol=1e-11)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("document", range(4))
def test_other_documents_do_not_change_a_bit(backbone, document, dtype):
    lengths = (7, 1, 12, 5)
    backbone.to(dtype)
    x, layout = drawn(sum(lengths)).to(dtype), causal(*lengths)
    before = backbone(x, *layout)
    own = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)) == document
    x[own] += 100 * drawn(int(own.sum()), seed=1).to(dtype)
    after = backbone(x, *layout)
    if backbone.config.experts:  # how many rows an expert multiplies depends on others, and with it how it rounds
        torch.testing.assert_close(after[~own], before[~own], rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-5)
    else:
        assert torch.equal(after[~own], before[~own])
    assert not torch.isclose(after[own], before[own]).all(dim=1).any()


# Gradients.


def test_gradients_reach_what_a_row_sees_and_nothing_else():
    backbone = make(heads=4, kv_heads=2, window=0)
    at, intervals = causal(5, 7)
    intervals[6:9, 1, 1] = 9
    x = drawn(12).requires_grad_()
    for row in range(12):
        hidden = backbone(x, at, intervals)
        (slope,) = torch.autograd.grad(hidden[row].square().sum(), x)
        seen = reference.visible(intervals, 12)[row]
        assert torch.equal(slope.abs().sum(dim=1) > 0, seen)


def test_windows_bound_the_gradient():
    """Two layers of a window of 3 reach back four rows."""
    backbone = make(heads=4, window=3)
    x = drawn(10).requires_grad_()
    (slope,) = torch.autograd.grad(backbone(x, *causal(10))[9].square().sum(), x)
    assert (slope.abs().sum(dim=1) > 0).tolist() == [False] * 5 + [True] * 5


def test_every_weight_learns(backbone):
    backbone(drawn(9), *causal(9)).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_are_those_of_the_formula(backbone):
    x, (at, intervals) = drawn(9), causal(9)
    weight = drawn(9, seed=4)
    inputs = list(backbone.parameters())
    found = torch.autograd.grad((backbone(x, at, intervals) * weight).sum(), inputs)
    want = torch.autograd.grad((plain(backbone, x, at, intervals) * weight).sum(), inputs)
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# Configurations.


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_configuration_survives_json(changes):
    config = BackboneConfig(width=WIDTH, layers=2, frequencies=(0.1, 0.25), **changes)
    assert BackboneConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_numbers_that_contradict_each_other():
    with pytest.raises(CheckpointError, match="2 layers, but 3 values of window"):
        make(heads=4, window=(1, 2, 3))
    with pytest.raises(CheckpointError, match="4 query heads cannot share 3 key heads"):
        make(heads=4, kv_heads=3)
    with pytest.raises(CheckpointError, match="norm must be one of rms, rms_plus_one, layer, got 'batch'"):
        make(heads=4, norm="batch")
    with pytest.raises(CheckpointError, match="ff must be one of swiglu, geglu, gelu, got 'relu'"):
        make(heads=4, ff="relu")
    with pytest.raises(CheckpointError, match=r"unturned_layers must lie below 2, got \(2,\)"):
        make(heads=4, unturned_layers=(2,))
    with pytest.raises(CheckpointError, match="rotary_dim 8 is more than a head of 6 has"):
        make(heads=4, rotary_dim=8)
    with pytest.raises(CheckpointError, match="3 experts need experts_hidden and 1 to 3 experts_chosen, got 5 and 4"):
        make(heads=4, experts=3, experts_hidden=5, experts_chosen=4)
    with pytest.raises(CheckpointError, match="qk_norm 'whole' is known for norm 'rms', got 'layer'"):
        make(heads=4, norm="layer", qk_norm="whole")
    with pytest.raises(CheckpointError, match="unknown key 'head'; did you mean 'heads'"):
        BackboneConfig.from_json({"width": 8, "layers": 1, "head": 2})


def test_start_values_scale_with_depth():
    torch.manual_seed(0)
    deep = build(BackboneConfig(width=128, layers=8, heads=4))
    block = deep.blocks[3]
    for module, std in ((block.mixer.qkv, 0.02), (block.mixer.out, 0.005), (block.ff.down, 0.005)):
        assert module.weight.std().item() == pytest.approx(std, rel=0.05)
