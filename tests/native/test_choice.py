"""When the library is used, and what is said where it cannot be."""

from __future__ import annotations

import sys

import pytest

from anyany.errors import NativeError
from anyany.native import choice


@pytest.fixture
def unknown(monkeypatch):
    """Nothing was tried yet, and nothing that is tried here is kept."""
    choice._find.cache_clear()
    yield monkeypatch
    choice._find.cache_clear()


@pytest.fixture
def no_compiler(unknown, tmp_path):
    from anyany_kernels import native

    native.library.cache_clear()
    unknown.setenv("CC", "no-such-compiler")
    unknown.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield unknown
    native.library.cache_clear()


def test_without_a_compiler_pytorch_does_the_work_and_the_reason_is_kept(no_compiler):
    no_compiler.delenv(choice.VARIABLE, raising=False)
    assert choice.library() is None
    assert "no-such-compiler" in choice.why_not()
    no_compiler.setenv("CC", "cc")  # it is tried once
    assert choice.library() is None


def test_who_insists_is_told_why_not(no_compiler):
    no_compiler.setenv(choice.VARIABLE, "1")
    with pytest.raises(NativeError, match=r"ANYANY_NATIVE=1.*no-such-compiler.*install"):
        choice.library()


def test_without_the_package_its_name_is_told(unknown):
    unknown.setitem(sys.modules, "anyany_kernels", None)
    unknown.delenv(choice.VARIABLE, raising=False)
    assert choice.library() is None
    assert "pip install anyany-kernels" in choice.why_not()


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "0")
    assert choice.library() is None
    assert "ANYANY_NATIVE=0" in choice.why_not()
    assert not choice.asked()


def test_another_value_is_an_error(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "yes")
    with pytest.raises(NativeError, match=r"0 \(never\) or 1 \(always\).*'yes'"):
        choice.library()
