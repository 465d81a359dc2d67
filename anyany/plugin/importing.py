"""What an importer of foreign models says: their numbers in our words, and where their tensors go.

No torch: a family is described by a table of names and a function from its ``config.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    """Where our tensors lie in a foreign checkpoint: those of a language model, or those of an encoder with ``blocks``.

    A module stands for its ``weight`` and its ``bias``. Several names fill one of our tensors from its first row on,
    one behind the other: heads of queries, keys and values in ``mixer.qkv``, equal shares elsewhere.

    Attributes:
        top: Our module, or tensor, outside the blocks -> theirs, such as ``{"backbone.norm": "model.norm"}``.
        layer: What stands before the names of a block, such as ``"model.layers.{layer}."``.
        block: Our module in a block -> theirs. ``ff.experts_gate_up`` and ``ff.experts_down`` are tensors and no
            modules: there the names are whole, and ``{expert}`` runs over the experts, the slowest of all.
        base: What begins the names of all but the output matrix; a file of the model without it may lack it.
        transposed: Our modules, or tensors of ``top``, whose weights lie there as ``(inputs, outputs)``.
        buffers: Ends of names that a file may hold and that are no weights.
    """

    top: Mapping[str, str]
    layer: str = ""
    block: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base: str = "model."
    transposed: frozenset[str] = frozenset()
    buffers: tuple[str, ...] = ("rotary_emb.inv_freq",)

    def below(self, base: str) -> Names:
        """The same where the model lies in another, under ``base``."""
        top = {ours: base + theirs for ours, theirs in self.top.items()}
        return replace(self, top=top, layer=base + self.layer, base=base + self.base)


@dataclass(frozen=True, kw_only=True)
class ForeignEncoder:
    """An encoder of a foreign model, with its projector.

    Attributes:
        id: Of an encoder of ours.
        config: Of that encoder; what is left out is as its spec says.
        names: Of its tensors.
        projector: Its kind, and options, such as ``{"kind": "mlp", "norm": False, "marks": False}``.
        projector_names: Of the tensors of the projector.
        token: Id of the control token that stands for one item in a text.
        before: Texts, and ids of control tokens, before the rows of an item in the place of that token.
        after: The same behind them.
    """

    id: str
    config: Mapping[str, Any]
    names: Names
    projector: Mapping[str, Any]
    projector_names: Names
    token: int
    before: tuple[str | int, ...] = ()
    after: tuple[str | int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Multimodal:
    """A ``config.json`` of a language model with encoders before it.

    Attributes:
        text: The ``config.json`` of the language model inside, which the importer of its ``model_type`` reads.
        text_base: What stands before the names that this importer knows, such as ``"language_model."``.
        encoders: One for each modality that it takes.
        renamed: Beginnings of names as other versions write them -> as the tables have them; tried in order, each
            on what the one before it made.
    """

    text: Mapping[str, Any]
    text_base: str
    encoders: tuple[ForeignEncoder, ...]
    renamed: tuple[tuple[str, str], ...] = ()


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


@dataclass(frozen=True, kw_only=True)
class MultimodalImporter:
    """Language models with encoders before them, of one ``model_type``.

    Attributes:
        describe: The ``config.json`` of a model, and the JSON files beside it that say how media are prepared, by
            name -> what it is made of; refuses as that of an ``Importer`` does.
        files: Names of those files; of several the directory may lack some.
    """

    describe: Callable[[Mapping[str, Any], Mapping[str, Mapping[str, Any]]], Multimodal]
    files: tuple[str, ...]
