"""What a model keeps from request to request is what it would compute; what has changed is never found."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from torch import nn

import anyany
from anyany.errors import RequestError
from anyany.model.caches import Caches, Features
from anyany.sequence import PositionScheme

WORDS = "zqx wvk " * 5  # of letters that no token joins
ENCODER = "encoder/imu/linear"
GREEDY = {"want": ["text"], "max_new_tokens": 6, "temperature": 0.0}


def imu(seed: int, rows: int = 20) -> Imu:
    return Imu(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))


@pytest.fixture
def model(make_model):
    return make_model().eval()


@pytest.fixture
def encoded(model, monkeypatch) -> list[int]:
    """How many items each call of the encoder got."""
    calls, plain = [], model.producers[ENCODER]
    monkeypatch.setitem(model.producers, ENCODER, lambda items: calls.append(len(items)) or plain(items))
    return calls


@contextmanager
def without(model) -> Iterator[None]:
    """No caches, and none touched; the encoder's own calls are not counted."""
    caches, producers = model.caches, dict(model.producers)
    model.caches = Caches(0, 0)
    model.producers[ENCODER] = model.components[ENCODER]
    yield
    model.caches = caches
    model.producers.update(producers)


def bare(model, prompts, **options) -> list[str]:
    """Replies without any cache."""
    with without(model):
        return [reply.text for reply in model.generate_batch(prompts, **{**GREEDY, **options})]


def texts(model, prompts, **options) -> list[str]:
    return [reply.text for reply in model.generate_batch(prompts, **{**GREEDY, **options})]


# Features.


def test_one_call_of_the_encoder_for_all_requests_and_each_item_once(model, encoded):
    prompts = [["one", imu(i % 3)] for i in range(8)]
    expected = bare(model, prompts)
    model.caches.prefix_bytes = 0
    assert texts(model, prompts) == expected
    assert encoded == [3]
    assert texts(model, [["what is", imu(1)]]) == bare(model, [["what is", imu(1)]])
    assert encoded == [3]
    assert (model.caches.features.hits, model.caches.features.misses) == (4 - 3, 3)


def test_a_failing_item_costs_only_its_own_request(model, encoded, monkeypatch):
    plain = model.producers[ENCODER]

    def fails(items):
        if any(len(item.arrays["x"]) == 7 for item in items):
            raise ZeroDivisionError("a plugin's own mistake")
        return plain(items)

    monkeypatch.setitem(model.producers, ENCODER, fails)
    prompts = [["one", imu(0)], ["two", imu(1, rows=7)], ["three", imu(2)]]
    replies = model.generate_batch(prompts, errors="return", **GREEDY)
    assert isinstance(replies[1], ZeroDivisionError)
    assert [replies[0].text, replies[2].text] == bare(model, [prompts[0], prompts[2]])[:2]


def test_what_was_used_least_recently_goes_first_and_the_bound_holds(model, encoded):
    item = 20 * 8 * 4  # rows, numbers, bytes
    model.caches = Caches(features=2 * item + 5, prefixes=0)
    for seed in (0, 1, 0, 2, 0, 1):
        assert texts(model, [["one", imu(seed)]]) == bare(model, [["one", imu(seed)]])
        assert model.caches.features.bytes <= 2 * item
        held = {rows.untyped_storage().nbytes() for rows in model.caches.features._rows.values()}
        assert held == {item}  # and no batch that it was part of
    assert encoded == [1, 1, 1, 1]  # 0, 1, 2, and 1 again, which 2 had driven out
    model.caches = Caches(features=item - 1, prefixes=0)
    texts(model, [["one", imu(0)], ["two", imu(0)]])
    assert (model.caches.features.bytes, encoded[4:]) == (0, [1])
    model.caches = Caches(features=0, prefixes=0)
    texts(model, [["one", imu(0)], ["two", imu(0)]])
    assert encoded[5:] == [2]


def test_a_copy_begins_empty_and_is_of_the_same_size(model):
    model.caches = Caches(features=1000, prefixes=1 << 30)
    texts(model, [["one", imu(0)]])
    other = copy.deepcopy(model.caches)
    assert (len(model.caches.features), len(other.features), other.status()["prefix_bytes"]) == (1, 0, 0)
    assert (other.features.budget, other.prefix_bytes) == (1000, 1 << 30)


@pytest.mark.parametrize("size", [-1, True, 1.5, "1G"])
def test_a_size_is_a_number_of_bytes(size):
    with pytest.raises(RequestError, match="features: expected a number of bytes"):
        Caches(features=size)


def test_sizes_are_given_when_a_model_is_loaded(model, plugins, tmp_path):
    model.save(tmp_path / "m")
    loaded = anyany.load(tmp_path / "m", plugins=plugins, device="cpu", caches=Caches(features=99, prefixes=0))
    assert (loaded.caches.features.budget, loaded.caches.prefix_bytes) == (99, 0)
    for _ in range(2):
        assert loaded.generate(PROMPTS[0], **GREEDY).usage.shared_rows == 0
    loaded.caches = Caches()
    usages = [loaded.generate(PROMPTS[0], **GREEDY).usage for _ in range(2)]
    assert [usage.shared_rows for usage in usages] == [0, usages[0].prompt_rows - 1]
    assert loaded.caches.status()["prefix_rows"] > 0
    loaded.caches.clear()
    assert loaded.caches.status() == dict.fromkeys(loaded.caches.status(), 0) | {"feature_misses": 1}
    assert loaded.generate(PROMPTS[0], **GREEDY).usage.shared_rows == 0
    pool = loaded.caches.status()["prefix_bytes"]
    loaded.caches = Caches(prefixes=pool - 1)  # a pool that is larger does not stay
    for _ in range(2):
        assert loaded.generate(PROMPTS[0], **GREEDY).usage.shared_rows == 0


def test_two_streams_at_once_have_a_pool_each(model):
    expected = bare(model, PROMPTS, max_new_tokens=3)
    streams = [model.stream(prompt, **{**GREEDY, "max_new_tokens": 3}) for prompt in PROMPTS]
    texts = ["", ""]
    for events in zip(*streams, strict=False):
        for index, event in enumerate(events):
            texts[index] += getattr(event, "text", "")
    for index, stream in enumerate(streams):
        texts[index] += "".join(getattr(event, "text", "") for event in stream)
    assert texts == expected
    assert bare(model, PROMPTS, max_new_tokens=3) == [
        model.generate(prompt, **{**GREEDY, "max_new_tokens": 3}).text for prompt in PROMPTS
    ]


def test_rows_of_a_component_go_when_it_changes():
    linear, features = nn.Linear(2, 2), Features(1000)
    features.put("e", {b"k": torch.ones(3, 2)})
    assert features.find("e", linear, [b"k"]) == {}  # nobody knows of what weights they are
    features.put("e", {b"k": torch.ones(3, 2)})
    assert set(features.find("e", linear, [b"k"])) == {b"k"}
    assert features.find("f", linear, [b"k"]) == {}
    with torch.no_grad():
        linear.bias.add_(1)
    assert features.find("e", linear, [b"k"]) == {}
    assert features.bytes == 0


# Whatever changes what rows would be.


def _train(model):
    optimiser = torch.optim.AdamW(model.parameters(), 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()


def _one_weight(model):
    with torch.inference_mode():
        model.components[ENCODER].linear.bias[3] += 5


def _new_storage(model):
    matrix = model.components["projector/imu/linear"].begin
    matrix.data = matrix.data + 3


def _cast(model):
    model.to(torch.bfloat16).to(torch.float32)


def _adapter_in_use(model):
    _adapter(model)
    model.adapters.use("one")


def _adapter_merged(model):
    _adapter(model)
    model.adapters.merge("one")


def _adapter(model):
    if "one" not in model.adapters:
        torch.manual_seed(1)
        for matrix in model.adapters.add("one", ["backbone", "encoder/"]).up:
            nn.init.normal_(matrix, std=0.3)


def _adapter_trained(model):
    _adapter_in_use(model)
    texts(model, PROMPTS)
    with torch.no_grad():
        for matrix in model.adapters["one"].up:
            matrix.mul_(-2)


def _scheme(model):
    model.backbone.scheme = PositionScheme("span")


def _swapped(model):
    other = nn.Linear(3, 8).eval()
    model.components[ENCODER].linear = other


def _hooked(model):
    model.projectors["imu/linear"].register_forward_hook(lambda module, args, out: out.flip(-1))


def _embedding_hooked(model):
    model.text.embedding.register_forward_pre_hook(lambda module, args: (args[0] % 7,))


PROMPTS = [[WORDS, imu(0), "four"], [WORDS, imu(1)]]
CHANGES = [
    _hooked,
    _embedding_hooked,
    _scheme,
    _train,
    _one_weight,
    _new_storage,
    _cast,
    _adapter_in_use,
    _adapter_merged,
    _adapter_trained,
    _swapped,
]


def hidden(model) -> torch.Tensor:
    """From which each prompt's first token is picked: two replies may agree where these do not."""
    seen, picker = [], type(model.host().picker)
    plain = picker.pick
    try:
        picker.pick = lambda self, states, *a: seen.append(states[0, 0].clone()) or plain(self, states, *a)
        for prompt in PROMPTS:
            begun = len(seen)
            model.generate(prompt, **{**GREEDY, "max_new_tokens": 1})
            del seen[begun + 1 :]
    finally:
        picker.pick = plain
    return torch.stack(seen)


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_nothing_old_is_found(model, change):
    before = hidden(model)
    torch.testing.assert_close(hidden(model), before, atol=1e-4, rtol=1e-4)
    assert model.caches.status()["prefix_hits"] > 1
    change(model)
    found = hidden(model)
    with without(model):
        expected = hidden(model)
    assert not torch.allclose(expected, before, atol=1e-3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_interrupted_pass_leaves_nothing_to_be_found(model, monkeypatch):
    """Ctrl-C in the middle of a prompt: its rows have places in the cache, and nobody has computed them."""
    before, plain = hidden(model), type(model.backbone).forward
    model.caches.clear()

    def forward(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(model.backbone), "forward", forward)
        with pytest.raises(KeyboardInterrupt):
            model.generate(PROMPTS[0], **GREEDY)
    assert model.caches.status()["prefix_rows"] == 0
    torch.testing.assert_close(hidden(model), before, atol=1e-4, rtol=1e-4)


def test_an_option_that_is_refused_costs_no_cache(model):
    model.generate(PROMPTS[0], **GREEDY)
    kept = model.caches.status()["prefix_rows"]
    assert kept
    with pytest.raises(RequestError):
        model.stream(PROMPTS[0], nonsense=1)
    assert model.caches.status()["prefix_rows"] == kept


def test_an_adapter_is_asked_for_by_request(model):
    _adapter(model)
    names = ["one", "none", "one", "none"]
    prompts = [PROMPTS[0]] * 4
    expected = bare(model, prompts, adapter=names)
    assert expected[0] != expected[1]
    for _ in range(3):
        assert texts(model, prompts, adapter=names) == expected
    assert model.caches.status()["prefix_hits"] >= 4


@pytest.mark.parametrize("promise", ["deterministic", "batched"])
def test_what_does_not_repeat_is_never_found(model, encoded, monkeypatch, promise):
    part = model.encoder_parts[0]
    spec = replace(part.spec, can=replace(part.spec.can, **{promise: False}))
    monkeypatch.setattr(model, "encoder_parts", (replace(part, spec=spec),))
    for _ in range(2):
        texts(model, [[WORDS, imu(0)]] * 2)
    assert sum(encoded) == 4
    assert model.caches.features.bytes == 0
    reply = model.generate([WORDS, imu(0), "one"], **GREEDY)
    assert 0 < reply.usage.shared_rows < 60  # the words before it


def test_what_trains_shares_nothing(model, encoded):
    model.components[ENCODER].train()
    texts(model, [["one", imu(0)]] * 2)
    assert encoded == [2]
    model.train()
    model.generate(PROMPTS[0], **GREEDY)
    assert model.generate(PROMPTS[0], **GREEDY).usage.shared_rows == 0


def test_codecs_are_asked_once_too(make_model, monkeypatch):
    model = make_model().eval()
    calls, plain = [], model.producers["codec/imu/signs"]
    monkeypatch.setitem(model.producers, "codec/imu/signs", lambda items: calls.append(len(items)) or plain(items))
    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": [imu(0)]}]
    model.caches.prefix_bytes = 0
    for word in ("two", "three"):
        model.generate([*chat, {"role": "user", "content": word}], **GREEDY)
    assert calls == [1]
