"""What tests of hostile files share: the check of the error, and the memory that a file costs."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from anyany.errors import MediaError
from anyany.parts import Media


def refused(media: type[Media], data: bytes, error: type[MediaError] = MediaError) -> str:
    """The message of the typed error; it never repeats a library's text or an address."""
    with pytest.raises(error) as caught:
        media.from_bytes(data)
    message = str(caught.value)
    assert not re.search(r"0x[0-9a-f]{6}|object at|BytesIO|Traceback|avcodec|libsnd|Errno", message), message
    assert message.startswith((media.modality, "motion", "skeleton"))
    return message


def peak(code: str, *arguments: str) -> int:
    """Megabytes that a process of its own needs on top of its imports."""
    script = f"""
import sys
from anyany.errors import MediaError
from anyany.parts import Audio, Image, Motion, TimeSeries, Video
import PIL.Image, av, numpy, pandas, pyarrow.parquet, soundfile
def used():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
before = used()
{textwrap.dedent(code)}
print((used() - before) // 1024)
"""
    out = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert out.returncode == 0, out.stderr
    return int(out.stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
