"""Every proof runs from its first line to its last, in a few steps, and says of each component whether it changed."""

from __future__ import annotations

import pytest

from anyany.eval.proofs import PROOFS
from anyany.mini import files

TRAINED = {
    "bind": {"text", "encoder/image/patch", "encoder/audio/logmel", "projector/image/patch", "projector/audio/logmel"},
    "align-in": {"projector/image/patch"}, "align-out": {"head/audio/melcodes"}, "lora": {"adapter"},
}  # fmt: skip
LAST = {"bind": "image-audio", "align-in": "projector / everything", "align-out": "text-to-speech", "lora": "off"}


@pytest.mark.slow
@pytest.mark.skipif(not (files.available("mnist") and files.available("fsdd")), reason="needs MNIST and FSDD")
@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_runs(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    PROOFS[name](steps=2, limit=10)
    told = capsys.readouterr().out
    assert TRAINED[name] <= {line.split()[0] for line in told.splitlines() if " changed" in line}
    assert "all other components: bit-identical" in told
    assert LAST[name] in told
