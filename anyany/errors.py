"""Every error that anyany raises on purpose.

Each message names the part or component, what was expected, what came, and the way out. ``code`` is
a fixed word that a program (or a server) may rely on; the message never repeats a library's text.
"""

from __future__ import annotations


class AnyanyError(Exception):
    """Base of all typed errors of anyany."""

    code: str = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class MediaError(AnyanyError, ValueError):
    """A media file or array cannot be used: see the subclasses."""

    code = "media_error"


class MediaDecodeError(MediaError):
    """The bytes are damaged, or are not what they claim to be."""

    code = "media_decode_failed"


class MediaTooLargeError(MediaError):
    """The media exceeds a limit; the message names part, limit and value."""

    code = "media_too_large"


class UnsupportedMediaError(MediaError):
    """The format, or the codec inside the container, is not on the list of what is read."""

    code = "unsupported_media"


class EmptyMediaError(MediaError):
    """The media holds no sample, frame or pixel."""

    code = "empty_media"


class PromptError(AnyanyError, ValueError):
    """The prompt is not a list of parts or messages that the model can take."""

    code = "bad_prompt"


class RequestError(AnyanyError, ValueError):
    """An option of ``generate`` is out of range, or two of them contradict each other."""

    code = "bad_request"


class UnknownModalityError(AnyanyError, LookupError):
    """No component of the model, or of any plugin, handles the modality."""

    code = "unknown_modality"


class AmbiguousComponentError(AnyanyError, LookupError):
    """Several components fit; the message lists their ids."""

    code = "ambiguous_component"


class PluginError(AnyanyError):
    """A plugin cannot be loaded or used; the message carries its recorded reason."""

    code = "plugin_error"


class MissingPackageError(AnyanyError, ImportError):
    """An optional package is needed; the message names the command that installs it."""

    code = "missing_package"


class SpanMismatchError(AnyanyError, ValueError):
    """A component produced another number of rows than it declared."""

    code = "span_mismatch"


class LayoutError(AnyanyError, ValueError):
    """Spans, intervals or coordinates are not valid."""

    code = "bad_layout"


class TruncationError(AnyanyError, ValueError):
    """A sequence is longer than its limit and the policy is ``error``."""

    code = "too_long"


class CacheError(AnyanyError, RuntimeError):
    """The key-value pool cannot hold, or does not hold, what was asked of it."""

    code = "cache_error"


class GuidanceError(AnyanyError, ValueError):
    """Guidance was asked for, and the branch that it needs is missing."""

    code = "missing_guidance_branch"


class KernelError(AnyanyError, RuntimeError):
    """A fused kernel was asked for and cannot run here; the message says why."""

    code = "kernel_unavailable"


class DistributedError(AnyanyError, RuntimeError):
    """The processes of a run do not find each other, differ, or one of them has ended."""

    code = "distributed_error"


class CheckpointError(AnyanyError):
    """A checkpoint is damaged, incomplete, or of another format."""

    code = "bad_checkpoint"


class MissingPluginError(CheckpointError):
    """A checkpoint holds a component whose plugin is not installed."""

    code = "missing_plugin"


class RecipeError(AnyanyError, ValueError):
    """A training recipe has an unknown key, or a value out of range."""

    code = "bad_recipe"


class DataError(AnyanyError):
    """A data set is missing or damaged; the message says where it was looked for."""

    code = "bad_data"


class AdapterError(AnyanyError):
    """An adapter cannot be made, read, or used with this model."""

    code = "adapter_error"


class NativeError(AnyanyError, RuntimeError):
    """The native library was asked for and cannot be had, or does not know what it is to run."""

    code = "native_unavailable"


class ConformanceError(AnyanyError, AssertionError):
    """A component does not do what a check of ``anyany.testing`` demands, or a check is asked for that there is not."""

    code = "check_failed"
