"""What specs must keep to, plugins that are registered by hand, and factories that fail."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from anyany.errors import MissingPackageError, PluginError, UnknownModalityError
from anyany.plugin import (
    ANYANY_API,
    CodecSpec,
    Codes,
    EncoderSpec,
    MetricSpec,
    ModalitySpec,
    TaskSpec,
    Vectors,
    hookimpl,
)
from anyany.plugin.records import PluginRecord, to_json
from anyany.plugin.registry import Registry


def manifest(*specs, version=ANYANY_API):
    """A manifest that declares these specs."""

    def hook(kind):
        return hookimpl(lambda: [s for s in specs if isinstance(s, kind)])

    module = ModuleType("toy_manifest")
    module.ANYANY_API = version
    module.anyany_modalities, module.anyany_encoders = hook(ModalitySpec), hook(EncoderSpec)
    module.anyany_codecs = hook(CodecSpec)
    module.anyany_tasks, module.anyany_metrics = hook(TaskSpec), hook(MetricSpec)
    return module


def encoder(**changes):
    return EncoderSpec(**({"id": "toy/one", "modality": "image", "factory": "json:loads"} | changes))


def codec(**changes):
    base = {"id": "toy/two", "modality": "image", "factory": "json:loads", "latents": Codes(vocab=8)}
    return CodecSpec(**(base | changes))


def word(**changes):
    return ModalitySpec(**({"name": "smell", "media": "smell:Smell"} | changes))


def task(**changes):
    return TaskSpec(**({"id": "toy/three", "factory": "json:loads"} | changes))


def metric(**changes):
    return MetricSpec(**({"id": "toy/four", "modality": "text", "factory": "json:loads"} | changes))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (encoder(id="other/one"), "must read 'toy/<name>'"),
        (encoder(id="one"), "must read 'toy/<name>'"),
        (encoder(id="toy/One"), "must read 'toy/<name>'"),
        (encoder(id="toy/../one"), "must read 'toy/<name>'"),
        (encoder(modality="text"), "'text' belongs to the core"),
        (encoder(factory="json.loads"), "'package.module:callable'"),
        (encoder(factory="json:JSONDecoder.decode"), "'package.module:callable'"),
        (encoder(config={"x": object()}), "plain JSON"),
        (encoder(requires=("no requirement at all",)), "is not a requirement"),
        (codec(latents=Codes(vocab=1)), "vocab >= 2"),
        (codec(latents=Codes(vocab=8, books=0)), "books >= 1"),
        (codec(latents=Vectors(dim=0)), "dim >= 1"),
        (codec(latents=Vectors(dim=2, objective="magic")), "objective must be one of regression"),
        (codec(latents=3), "must be Codes or Vectors, got int"),
        (task(id="three"), "must read 'toy/<name>'"),
        (task(factory="json.loads"), "'package.module:callable'"),
        (task(config={"x": object()}), "plain JSON"),
        (task(requires=("no requirement at all",)), "is not a requirement"),
        (metric(id="other/four"), "must read 'toy/<name>'"),
        (metric(modality="Image"), "toy/four: modality 'Image' must be a word"),
        (metric(against="an image"), "toy/four: modality 'an image' must be a word"),
        (metric(factory="json"), "'package.module:callable'"),
        (word(name="image"), "cannot be redefined"),
        (word(name="text"), "cannot be redefined"),
        (word(name="Smell"), "lower-case"),
        (word(media="smell.Smell"), "'package.module:Class'"),
    ],
)
def test_broken_rules_are_told(spec, reason):
    found = Registry.isolated()
    with pytest.raises(PluginError, match=r"toy \(registered by hand\): failed") as caught:
        found.register(manifest(spec), "toy")
    assert reason in str(caught.value)
    assert found.records == ()


def test_all_faults_are_told_at_once():
    with pytest.raises(PluginError) as caught:
        Registry.isolated().register(manifest(encoder(id="a/b"), codec(latents=Codes(vocab=0))), "toy")
    assert "'a/b'" in str(caught.value)
    assert "vocab >= 2" in str(caught.value)


def test_one_id_twice_in_one_plugin():
    with pytest.raises(PluginError, match="'toy/one' is declared 2 times"):
        Registry.isolated().register(manifest(encoder(), encoder()), "toy")


def test_an_encoder_and_a_codec_may_share_an_id():
    found = Registry.isolated()
    found.register(manifest(encoder(id="toy/both"), codec(id="toy/both")), "toy")
    assert [type(s) for s in found.components("toy/both")] == [EncoderSpec, CodecSpec]


def test_tasks_and_metrics_are_no_components():
    found = Registry.isolated()
    found.register(manifest(task(), metric(modality="image", against="text")), "toy")
    assert [s.id for s in found.tasks] == ["toy/three"]
    assert [(s.modality, s.against, s.higher_is_better) for s in found.metrics] == [("image", "text", True)]
    with pytest.raises(UnknownModalityError):
        found.components("image")


def test_a_hook_returns_its_own_kind_only():
    module = manifest()
    module.anyany_tasks = hookimpl(lambda: [metric()], specname="anyany_tasks")
    with pytest.raises(PluginError, match="anyany_tasks must return TaskSpec, got MetricSpec"):
        Registry.isolated().register(module, "toy")


@pytest.mark.parametrize("spec", [task(), metric()])
def test_a_task_or_metric_is_declared_once(spec):
    with pytest.raises(PluginError, match=f"'{spec.id}' is declared 2 times"):
        Registry.isolated().register(manifest(spec, spec), "toy")


def test_a_name_can_be_taken_once():
    found = Registry.isolated()
    found.register(manifest(encoder()), "toy")
    with pytest.raises(PluginError, match="already taken"):
        found.register(manifest(encoder()), "toy")
    assert [s.id for s in found.encoders] == ["toy/one"]


def test_a_word_that_is_taken_is_an_error_and_leaves_its_owner_alone():
    found = Registry.isolated()
    found.register(manifest(word()), "nose")
    with pytest.raises(PluginError, match="'smell' is already defined"):
        found.register(manifest(word()), "snout")
    assert [(r.name, r.status) for r in found.records] == [("nose", "ok")]
    found.register(manifest(word(name="odour")), "snout")
    assert {"smell", "odour"} < set(found.modalities)


def test_one_object_under_two_names_does_not_throw_out_the_first():
    found = Registry.isolated()
    plugin = manifest(encoder())
    found.register(plugin, "toy")
    with pytest.raises(PluginError):
        found.register(plugin, "copy")
    assert found._manager.get_plugin("toy") is plugin


def test_a_refused_plugin_can_be_mended_and_registered_again():
    found = Registry.isolated()
    with pytest.raises(PluginError, match="incompatible: written for contract 0"):
        found.register(manifest(encoder(), version=0), "toy")
    assert found.register(manifest(encoder()), "toy").status == "ok"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libfoo.so.3')", "ImportError: libfoo.so.3"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def other(): pass", "has no attribute 'build'"),
        ("def build(width): raise ValueError('width')", "ValueError: width"),
    ],
)
def test_a_factory_that_fails_names_its_component(site, source, reason):
    site.module("fake_factory", source)
    spec = encoder(factory="fake_factory:build", config={"width": 3})
    with pytest.raises(PluginError, match="toy/one: its factory fake_factory:build failed") as caught:
        Registry.isolated().build(spec)
    assert reason in str(caught.value)


def test_a_factory_gets_its_configuration_and_the_changes(site):
    site.module("fake_factory", "def build(**config): return config")
    spec = encoder(factory="fake_factory:build", config={"width": 3, "depth": 1})
    assert Registry.isolated().build(spec, depth=2) == {"width": 3, "depth": 2}
    assert dict(spec.config) == {"width": 3, "depth": 1}


def test_requirements_of_a_component_are_checked_before_its_import(site):
    site.module("fake_factory", "raise RuntimeError('imported')")
    spec = encoder(factory="fake_factory:build", requires=("nowhere>=2",))
    with pytest.raises(MissingPackageError, match=r"toy/one: needs nowhere>=2, not installed. Try: pip install"):
        Registry.isolated().build(spec)


def test_an_isolated_registry_finds_nothing(site):
    site.add("good")
    found = Registry.isolated()
    assert found.records == ()
    with pytest.raises(UnknownModalityError, match="Installed: none"):
        found.encoder("image")


def test_records_and_specs_are_json():
    record = PluginRecord(name="toy", specs=(encoder(config={"sizes": (1, 2)}), codec(latents=Vectors(dim=2)), word()))
    back = json.loads(json.dumps(to_json(record)))
    assert back["status"] == "ok"
    assert [s["kind"] for s in back["specs"]] == ["EncoderSpec", "CodecSpec", "ModalitySpec"]
    assert back["specs"][0]["config"] == {"sizes": [1, 2]}
    assert back["specs"][1]["latents"]["kind"] == "Vectors"
