"""What an importer of foreign language models says: their numbers in our words, and where their tensors go.

No torch: a family is described by a table of names and a function from its ``config.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A ``config.json`` in our words.

    Attributes:
        backbone: Fields of ``anyany.backbone.BackboneConfig``; what is left out is as usual there.
        vocab: Rows of the token embedding.
        tied: The embedding is the output matrix, too.
        scale: Of embedded rows.
        softcap: Logits z become ``softcap * tanh(z / softcap)``; 0 leaves them.
    """

    backbone: Mapping[str, Any]
    vocab: int
    tied: bool = False
    scale: float = 1.0
    softcap: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Names:
    """Where our tensors lie in a foreign checkpoint.

    A module stands for its ``weight`` and its ``bias``. Several names fill one of our tensors from its first row on,
    one behind the other: heads of queries, keys and values in ``mixer.qkv``, equal shares elsewhere.

    Attributes:
        top: Our module outside the blocks -> theirs, such as ``{"backbone.norm": "model.norm"}``.
        layer: What stands before the names of a block, such as ``"model.layers.{layer}."``.
        block: Our module in a block -> theirs. ``ff.experts_gate_up`` and ``ff.experts_down`` are tensors and no
            modules: there the names are whole, and ``{expert}`` runs over the experts, the slowest of all.
        base: What begins the names of all but the output matrix; a file of the model without it may lack it.
        transposed: Our modules whose weights lie there as ``(inputs, outputs)``.
        buffers: Ends of names that a file may hold and that are no weights.
    """

    top: Mapping[str, str]
    layer: str
    block: Mapping[str, tuple[str, ...]]
    base: str = "model."
    transposed: frozenset[str] = frozenset()
    buffers: tuple[str, ...] = ("rotary_emb.inv_freq",)


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Language models of one ``model_type``.

    Attributes:
        describe: The ``config.json`` of a model -> its numbers; refuses with a ``CheckpointError`` that names the key
            whatever it does not know.
        names: Of its tensors.
    """

    describe: Callable[[Mapping[str, Any]], LanguageModel]
    names: Names
