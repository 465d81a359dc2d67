"""The native library of ``anyany-kernels``: whether it is used, and weights as it reads them."""

from anyany.native.choice import asked, library, why_not
from anyany.native.product import product
from anyany.native.weights import Form, Unfit, Weights, declined, for_library

__all__ = [
    "Form",
    "Unfit",
    "Weights",
    "asked",
    "declined",
    "for_library",
    "library",
    "product",
    "why_not",
]
