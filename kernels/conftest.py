"""Where there is no GPU, Triton's interpreter runs the kernels. It must be switched on before Triton is imported."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch asks for it where sums must be reproducible


def pytest_configure(config: pytest.Config) -> None:
    """Numpy warns where a GPU writes infinity or NaN, as a kernel may for keys that no row sees."""
    config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning:triton.runtime.interpreter")
    config.addinivalue_line("filterwarnings", "ignore:Conversion of an array:DeprecationWarning")  # its loops


@pytest.fixture(autouse=True)
def _new_memory_holds_nan():
    """A number that a kernel forgets to write must not be right by chance."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
