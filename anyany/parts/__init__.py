"""Parts of a message: text is ``str``, everything else is a ``Media`` with units."""

from anyany.parts.audio import Audio
from anyany.parts.base import Media
from anyany.parts.image import Image
from anyany.parts.messages import Message, as_messages
from anyany.parts.motion import Motion, Skeleton
from anyany.parts.timeseries import TimeSeries
from anyany.parts.video import Video

__all__ = ["Audio", "Image", "Media", "Message", "Motion", "Skeleton", "TimeSeries", "Video", "as_messages"]
