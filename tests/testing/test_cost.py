"""What a row costs: bytes that can be counted by hand, and time."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from anyany.plugin import EncoderSpec, ModalitySpec, Prepared, hookimpl
from anyany.plugin.registry import Registry
from anyany.testing import Subject, costs
from anyany.testing.cost import _Alive

ROWS = 3 * 4


class Wide(nn.Module):
    """Rows of 100 numbers; three such blocks live at once, a fourth only when one of them is gone."""

    width = 100

    def example(self, seed):
        from imu_plugin import Imu

        return Imu(np.full((4, 3), seed, np.float32))

    def prepare(self, media):
        return Prepared(arrays={"x": media.readings}, rows=4)

    def forward(self, batch):
        count = sum(item.rows for item in batch)
        one = torch.ones(count, 100)
        three = [one, one + 1, one + 2]
        view = three[1].T.T  # shares its bytes
        del three, one
        return view * 2


class WideManifest:
    ANYANY_API = 1

    @hookimpl
    def anyany_modalities(self):
        yield ModalitySpec(name="imu", media="imu_plugin:Imu")

    @hookimpl
    def anyany_encoders(self):
        yield EncoderSpec(id="imu/wide", modality="imu", factory=f"{__name__}:Wide")


def test_the_peak_of_an_encoder_is_that_of_what_lives_at_once(monkeypatch):
    plugins = Registry.isolated()
    plugins.register(WideManifest(), "imu")
    monkeypatch.setattr(Registry, "build", lambda self, spec, **config: Wide())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (cost,) = costs(Subject(spec=plugins.encoders[0], plugins=plugins))
    assert (cost.component, cost.call, cost.rows, cost.device) == ("imu/wide", "encode", ROWS, "cpu")
    assert cost.bytes == 3 * 400
    assert cost.seconds > 0


def test_views_and_what_is_written_in_place_take_nothing():
    given = torch.ones(1000)
    with _Alive() as alive:
        given.add_(1)
        _ = given[3:].view(-1, 1)
    assert alive.most == 0
    with _Alive() as alive:
        for _ in range(5):  # one after the other
            made = given * 2
            del made
    assert (alive.most, alive.now) == (4000, 0)
