"""The order of matrices in memory: by rows for training, and for decoding as a CPU reads them fastest.

One row times a matrix reads each weight once, and the libraries behind PyTorch do so at half the speed
where the outputs outnumber the inputs and each output's weights lie together. Such matrices are kept
column by column while a model generates: in place, so that they take no memory twice and no copy of them
can be out of date. Training goes back to rows, because checkpoints and the state of the optimiser keep no
other order, and a run that was stopped must go on bit for bit. So does the native library, which reads rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def order_for_decoding(matrices: Iterable[Tensor]) -> None:
    """Keep weights ``(outputs, inputs)`` with more outputs than inputs column by column; on a CPU only."""
    for weight in matrices:
        if weight.shape[0] > weight.shape[1] and weight.is_contiguous() and weight.device.type == "cpu":
            with torch.inference_mode(False), torch.no_grad():
                weight.data = weight.data.t().contiguous().t()


def order_by_rows(matrices: Iterable[Tensor]) -> None:
    """Keep weights row by row."""
    for weight in matrices:
        if not weight.is_contiguous():
            with torch.inference_mode(False), torch.no_grad():
                weight.data = weight.data.contiguous()
