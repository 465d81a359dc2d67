"""The same Llama-shaped model twice: in transformers, and in ours by way of the importer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anyany.errors import MissingPackageError

if TYPE_CHECKING:
    from torch import Tensor

    from anyany.model import Model

VOCAB = 8192
SPECIAL = ("<unk>", "<s>", "</s>")
SHAPES = {
    "10m": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 704},
    "40m": {"hidden_size": 512, "num_hidden_layers": 10, "num_attention_heads": 8, "intermediate_size": 1536},
    "240m": {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16, "intermediate_size": 2816},
}
"""Numbers of the models by size; half as many key heads as heads, and an output matrix of its own."""

VOCABULARIES = {"240m": 32000}
"""Tokens of those that have more than ``VOCAB``."""


@dataclass(frozen=True)
class Twins:
    """Equal weights.

    Attributes:
        ours: Speaks words: token i is the word ``w<i>``.
        theirs: A ``LlamaForCausalLM``.
    """

    ours: Model
    theirs: Any

    @property
    def parameters(self) -> int:
        """How many numbers each of them holds."""
        return sum(p.numel() for p in self.ours.parameters())

    def read(self) -> int:
        """Bytes of weights that a decoded token needs: all but the embedding, of which it needs one row."""
        table = self.ours.text.embedding.weight
        return table.element_size() * (self.parameters - table.numel())


@cache
def twins(size: str, dtype: torch.dtype = torch.float32) -> Twins:
    """Build both; the second call returns the first pair.

    Args:
        size: A key of ``SHAPES``.
        dtype: Of the weights.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    from anyany.importers.huggingface import load_huggingface
    from anyany.model import Caches

    theirs = llama(size, VOCABULARIES.get(size, VOCAB)).to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        write(theirs, Path(folder))
        ours = load_huggingface(Path(folder))
    ours.caches = Caches(features=0, prefixes=0)  # a prompt that is asked again must be read again
    return Twins(ours, theirs)


def llama(size: str, vocab: int = VOCAB) -> Any:
    """A ``LlamaForCausalLM``; equal weights at every call.

    Args:
        size: A key of ``SHAPES``.
        vocab: Tokens.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise MissingPackageError(
            "bench: transformers is the peer, and is not installed. Try: pip install 'anyany[hf]'"
        ) from None
    shape = SHAPES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = LlamaForCausalLM(
            LlamaConfig(
                **shape, vocab_size=vocab, num_key_value_heads=shape["num_attention_heads"] // 2,
                bos_token_id=1, eos_token_id=2, max_position_embeddings=4096, tie_word_embeddings=False,
            )
        ).eval()  # fmt: skip
    with torch.no_grad():
        theirs.lm_head.weight[: len(SPECIAL)] = 0  # never the largest: no reply ends early
    return theirs


def write(theirs: Any, folder: Path) -> None:
    """A Hugging Face directory of it, with a tokenizer."""
    theirs.save_pretrained(folder)
    _tokenizer(folder, theirs.config.vocab_size)


def _tokenizer(folder: Path, vocab: int) -> None:
    """Every token is a word, so that equal text is equal tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), vocab))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))


def prompt(rows: int, seed: int = 0) -> Tensor:
    """Random token ids ``(rows,)``, none of them special."""
    return torch.randint(len(SPECIAL), VOCAB, (rows,), generator=torch.Generator().manual_seed(seed))


def words(ids: Tensor) -> str:
    """Token ids ``(n,)`` as the text that our tokenizer reads and writes."""
    return " ".join(f"w{i}" for i in ids.tolist())
