"""The folder of fake distributions, for these tests."""

from fake_site import site

__all__ = ["site"]
