"""Each plugin ends with one status and a reason, and none of them harms another."""

from __future__ import annotations

import sys

import pytest
from fake_site import ENCODER, HEAD

from anyany.errors import AmbiguousComponentError, PluginError, UnknownModalityError
from anyany.plugin.discovery import Settings
from anyany.plugin.registry import Registry, registry

FAULTS = {
    "raises": (HEAD + "raise ImportError('libcudart.so.99 not found')", "ImportError: libcudart.so.99 not found"),
    "mute": (HEAD + "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", "Odd"),
    "exits": (HEAD + "import sys; sys.exit(0)", "SystemExit: 0"),
    "syntax": (HEAD + "def broken(:", "SyntaxError"),
    "misspelt": (HEAD + "@hookimpl\ndef anyany_encodres(): return []", "anyany_encodres"),
    "arguments": (HEAD + "@hookimpl\ndef anyany_encoders(registry): return []", "registry"),
    "no-spec": (HEAD + "@hookimpl\ndef anyany_encoders(): return [3]", "must return EncoderSpec, got int"),
    "wrong-spec": (
        HEAD + "@hookimpl\ndef anyany_codecs(): return [EncoderSpec(id='a/b', modality='image', factory='a:b')]",
        "anyany_codecs must return CodecSpec, got EncoderSpec",
    ),
    "no-list": (HEAD + "@hookimpl\ndef anyany_encoders(): return 3", "TypeError"),
    "half-way": (ENCODER + "    raise RuntimeError('after one')", "RuntimeError: after one"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plugin_at_fault_is_failed_and_its_neighbours_are_not(site, fault):
    manifest, reason = FAULTS[fault]
    site.add("aaa")
    site.add("mmm", manifest)
    site.add("zzz")
    found = site.discover()
    assert [(r.name, r.status) for r in site.own(found)] == [("aaa", "ok"), ("mmm", "failed"), ("zzz", "ok")]
    record = site.own(found)[1]
    assert reason in record.reason
    assert record.specs == ()
    assert "\n" not in record.reason
    assert [e.id for e in found.encoders] == ["aaa/one", "zzz/one"]


def test_what_an_ok_plugin_tells(site):
    site.add("good", version="3.4")
    record = site.record("good")
    assert (record.status, record.reason, record.traceback) == ("ok", "", "")
    assert (record.distribution, record.version, record.module) == ("dist-good", "3.4", "fake_dist_good")
    assert record.origin == "dist-good 3.4"
    assert [s.id for s in record.specs] == ["good/one"]


def test_a_traceback_is_kept_as_text(site):
    site.add("bad", HEAD + "def helper(): raise KeyError('gone')\nhelper()")
    assert "in helper" in site.record("bad").traceback


def test_the_users_interrupt_passes(site):
    site.add("slow", HEAD + "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.discover()


@pytest.mark.parametrize(
    ("requires", "python", "reason"),
    [
        (["nowhere-to-be-found>=2"], "", "needs nowhere-to-be-found>=2, not installed"),
        (["numpy<1"], "", "needs numpy<1, found "),
        (["anyany>=99"], "", "needs anyany>=99, found "),
        ([], ">=99", "needs Python >=99, found "),
        (["numpy<1", "nowhere>1"], "", "; needs nowhere>1, not installed"),
        (["this is no requirement"], "", "cannot be read"),
    ],
)
def test_unmet_is_known_before_any_code_of_the_plugin_runs(site, requires, python, reason):
    module = site.add("needy", HEAD + "raise RuntimeError('imported')", requires=requires, python=python)
    record = site.record("needy")
    assert record.status == "unmet"
    assert reason in record.reason
    assert module not in sys.modules


@pytest.mark.parametrize(
    "requirement", ["numpy", "anyany>=0.1", "nowhere; extra == 'more'", "nowhere; python_version < '3'"]
)
def test_requirements_that_are_met_or_do_not_apply(site, requirement):
    site.add("fine", requires=[requirement])
    assert site.record("fine").status == "ok"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (ENCODER.replace("API = 1", "API = 2"), "written for contract 2, this anyany speaks 1"),
        (ENCODER.replace("ANYANY_API = 1", ""), "states no ANYANY_API"),
    ],
)
def test_another_contract_is_incompatible(site, manifest, reason):
    site.add("old", manifest)
    assert (record := site.record("old")).status == "incompatible"
    assert reason in record.reason


def test_two_that_claim_one_name_are_both_set_aside(site):
    modules = [site.add("twin", distribution=f"house-{n}", version=f"{n}.0") for n in (1, 2)]
    first, second = site.own(site.discover())
    assert (first.status, second.status) == ("conflict", "conflict")
    assert "also claimed by house-2 2.0; set ANYANY_BLOCK=house-2" in first.reason
    assert "also claimed by house-1 1.0; set ANYANY_BLOCK=house-1" in second.reason
    assert not set(modules) & set(sys.modules)


def test_two_distributions_with_equal_entry_points_are_still_two(site):
    for n in (1, 2):
        headers = f"Metadata-Version: 2.1\nName: house-{n}\nVersion: 1.0\n"
        site.info(f"house-{n}", METADATA=headers, entry_points="[anyany]\ntwin = one_manifest\n")
    assert [r.status for r in site.own(site.discover())] == ["conflict", "conflict"]


def test_the_block_list_resolves_a_conflict(site):
    for n in (1, 2):
        site.add("twin", distribution=f"house-{n}")
    found = site.discover(block=frozenset({"house-2"}))
    assert [(r.distribution, r.status) for r in site.own(found)] == [("house-1", "ok"), ("house-2", "blocked")]
    assert found.encoder("twin/one").factory == "fake_house_1_heavy:build"
    with pytest.raises(UnknownModalityError, match="Did you mean 'twin/one'"):
        found.encoder("twin/on")  # the blocked one is not why this id is unknown


def test_two_that_claim_one_word_are_both_set_aside(site):
    word = HEAD + "@hookimpl\ndef anyany_modalities(): yield ModalitySpec(name='smell', media='smell:Smell')\n"
    site.add("nose", word)
    site.add("snout", word)
    site.add("other")
    found = site.discover()
    nose, other, snout = site.own(found)
    assert (nose.status, other.status, snout.status) == ("conflict", "ok", "conflict")
    assert "'smell' is also claimed by snout" in nose.reason
    assert "'smell' is also claimed by nose" in snout.reason
    assert "smell" not in found.modalities


def test_settings_come_from_the_environment():
    assert Settings.from_environment({}) == Settings(allow=None)
    given = {"ANYANY_PLUGINS": "A_b, c", "ANYANY_BLOCK": "x", "ANYANY_STRICT": "1", "ANYANY_TRACE": "0"}
    expected = Settings(allow=frozenset({"a-b", "c"}), block=frozenset({"x"}), strict=True, trace=False)
    assert Settings.from_environment(given) == expected
    assert Settings.from_environment({"ANYANY_PLUGINS": ""}).allow == frozenset()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ANYANY_PLUGINS", "one", {"one": "ok", "two": "blocked"}),
        ("ANYANY_PLUGINS", "Dist_Two,stranger", {"one": "blocked", "two": "ok"}),
        ("ANYANY_PLUGINS", "", {"one": "blocked", "two": "blocked"}),
        ("ANYANY_BLOCK", "one, dist-two", {"one": "blocked", "two": "blocked"}),
        ("ANYANY_BLOCK", "one", {"one": "blocked", "two": "ok"}),
        ("ANYANY_BLOCK", "", {"one": "ok", "two": "ok"}),
    ],
)
def test_allow_list_and_block_list(site, monkeypatch, variable, value, expected):
    modules = {name: site.add(name) for name in ("one", "two")}
    monkeypatch.setenv(variable, value)
    found = {r.name: r for r in Registry.discover().records}
    assert {name: found[name].status for name in modules} == expected
    for name, module in modules.items():
        assert (module in sys.modules) == (expected[name] == "ok")
        assert (variable in found[name].reason) == (expected[name] == "blocked")


def test_an_empty_allow_list_leaves_no_component_at_all(site, monkeypatch):
    site.add("one")
    monkeypatch.setenv("ANYANY_PLUGINS", "")
    found = Registry.discover()
    assert (found.encoders, found.codecs) == ((), ())
    assert {r.status for r in found.records} == {"blocked"}


def test_strict_raises_at_once_and_names_all_that_are_sick(site):
    site.add("good")
    site.add("bad", HEAD + "raise ImportError('no lib')")
    site.add("needy", requires=["nowhere"])
    with pytest.raises(PluginError) as caught:
        site.discover(strict=True)
    text = str(caught.value)
    assert "bad (dist-bad 1.0): failed: ImportError: no lib" in text
    assert "needy (dist-needy 1.0): unmet: needs nowhere, not installed" in text
    assert "good" not in text


def test_strict_accepts_what_the_user_blocked(site):
    site.add("good")
    site.add("bad", HEAD + "raise ImportError")
    found = site.discover(strict=True, block=frozenset({"bad"}))
    assert [r.status for r in site.own(found)] == ["blocked", "ok"]


def test_quiet_at_start_and_loud_at_use(site, capfd, recwarn):
    site.add("bad", HEAD + "raise ImportError('libfoo.so.3 is missing')")
    found = site.discover()
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    for find in (found.encoder, found.codec, found.components):
        with pytest.raises(UnknownModalityError, match=r"bad \(dist-bad 1.0\): failed: .*libfoo.so.3 is missing"):
            find("bad/one")
        with pytest.raises(UnknownModalityError, match=r"libfoo.so.3 is missing"):
            find("smell")  # which plugin would have brought it, nobody knows


def test_an_unknown_plugin_comes_with_its_install_command(site):
    site.add("good")
    found = site.discover()
    with pytest.raises(UnknownModalityError, match="pip install anyany-lidar"):
        found.encoder("lidar/points")
    with pytest.raises(UnknownModalityError, match="Did you mean 'good/one'"):
        found.encoder("good/won")


def test_two_encoders_of_one_modality_are_ambiguous(site):
    site.add("one")
    site.add("two")
    found = site.discover()
    with pytest.raises(AmbiguousComponentError, match="one/one, two/one"):
        found.encoder("image")
    assert found.encoder("two/one").id == "two/one"
    assert [s.id for s in found.components("image")] == ["one/one", "two/one"]


@pytest.mark.parametrize(
    "files",
    [
        {"METADATA": "Name: torn\n", "entry_points": "[anyany]\nthis line has no equals sign\n"},
        {"METADATA": "Name: torn\n", "entry_points": b"\xff\xfe[anyany]\n"},
    ],
)
def test_metadata_that_cannot_be_read_hide_nobody_else(site, files):
    site.add("good")
    site.info("torn", **files)
    found = {r.name: r for r in site.discover().records if r.status != "blocked"}
    assert found["good"].status == "ok"
    assert found["torn"].status == "failed"
    assert "entry_points.txt cannot be read" in found["torn"].reason


@pytest.mark.parametrize("metadata", [b"", b"\xff\xfe", b"Nonsense\n"])
def test_damaged_headers(site, metadata):
    site.module("plain_manifest", ENCODER.format(plugin="plain", module="plain_manifest"))
    site.info("plain", METADATA=metadata, entry_points="[anyany]\nplain = plain_manifest\n")
    site.add("good")
    found = site.discover(allow=frozenset({"plain", "good"}))
    assert {"good": "ok"}.items() <= {r.name: r.status for r in found.records}.items()
    (record,) = (r for r in found.records if r.name == "plain")
    assert record.status in ("ok", "failed")
    assert record.distribution == ""


def test_an_older_copy_further_down_the_path_does_not_count(site, tmp_path, monkeypatch):
    site.add("good", version="2.0")
    older = tmp_path / "older"
    older.mkdir()
    monkeypatch.syspath_prepend(str(older))
    monkeypatch.syspath_prepend(str(site.folder))
    type(site)(older).add("good", version="1.0", module="another_name")
    assert site.record("good").version == "2.0"


@pytest.mark.parametrize("name", ["Good", "1st", "a.b"])
def test_names_have_one_form(site, name):
    site.add(name, distribution="dist-odd")
    record = site.record(name)
    assert record.status == "failed"
    assert "lower-case" in record.reason


def test_the_registry_of_the_process_discovers_once(site):
    registry.cache_clear()
    try:
        before = registry()
        site.add("late")
        assert registry() is before
        registry.cache_clear()
        assert "late" in {r.name for r in registry().records}
    finally:
        registry.cache_clear()
