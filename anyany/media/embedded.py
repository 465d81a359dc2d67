"""Files inside messages: base64, bare or as a ``data:`` URL."""

from __future__ import annotations

import base64
import binascii

from anyany.errors import MediaDecodeError, MediaTooLargeError
from anyany.media.limits import DEFAULT, Limits


def from_base64(modality: str, text: str, limits: Limits = DEFAULT) -> bytes:
    """Base64, or a ``data:...;base64,...`` URL -> the bytes of the file. The stated type of a URL does not count.

    Raises:
        MediaError: Not strict base64 (no blanks, no line ends, padded), or more than a file may have.
    """
    if text[:5] == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise MediaDecodeError(f"{modality}: expected a URL that begins with data:<type>;base64,")
    if len(text) // 4 * 3 > limits.bytes + 2:
        raise MediaTooLargeError(f"{modality}: a file may have {limits.bytes} bytes, this one has {len(text) // 4 * 3}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MediaDecodeError(
            f"{modality}: the base64 is damaged; expected letters, digits, + and / with padding, and no blanks"
        ) from None
