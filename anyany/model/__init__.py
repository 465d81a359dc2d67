"""Composition of models, their checkpoints, and what people call on them."""

from anyany.model.caches import Caches
from anyany.model.checkpoint import save
from anyany.model.component import codec, detokenize, encode, encoder, tokenize
from anyany.model.compose import compose, load
from anyany.model.document import Document, Piece, Planner
from anyany.model.model import DecoderPart, EncoderPart, Model
from anyany.model.reply import Reply
from anyany.model.tokenizer import Marks, TextTokenizer

__all__ = [
    "Caches",
    "DecoderPart",
    "Document",
    "EncoderPart",
    "Marks",
    "Model",
    "Piece",
    "Planner",
    "Reply",
    "TextTokenizer",
    "codec",
    "compose",
    "detokenize",
    "encode",
    "encoder",
    "load",
    "save",
    "tokenize",
]
