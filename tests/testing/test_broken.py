"""Each fault fails the check that names it, and what must follow from it; without a fault nothing fails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the factories lie beside this file

import broken
from fake_site import HEAD
from good import MOST, Trace

from anyany.errors import ConformanceError
from anyany.plugin import EncoderSpec, hookimpl
from anyany.plugin.registry import Registry
from anyany.testing import checks, run

MODEL = {  # what runs a component that raises, or that contradicts itself, in a model
    "bad_prompt_harms_no_neighbour", "cached_equals_uncached", "checkpoint_gives_the_same_reply",
    "later_parts_change_nothing_before", "packed_equals_alone", "replies_do_not_depend_on_neighbours",
    "rollback_leaves_no_trace", "same_seed_same_reply",
}  # fmt: skip
FAULTS = {  # the check that names the fault, and those that must follow from it
    "WrongRows": ("declared_equals_produced", MODEL | {"batch_equals_singles", "sizes_are_taken"}),
    "MixesItems": ("batch_equals_singles", {"later_parts_change_nothing_before", "packed_equals_alone"}),
    "Drops": ("same_input_same_output", set()),
    "NegativePlaces": (
        "declares_valid_coordinates",
        MODEL | {"interleaves_with_text", "order_of_media_is_kept", "text_trains_the_encoder"},
    ),
    "Untyped": ("bad_input_names_itself", set()),
    "DrawsByLot": (
        "example_follows_from_its_seed",
        {"later_parts_change_nothing_before", "refused_media_leave_no_trace", "same_seed_same_reply"},
    ),
    "DrawsGlobally": ("random_numbers_stay", set()),
    "ChangesDefaults": ("global_state_stays", set()),
    "Writes": ("nothing_is_touched", set()),
    "Warns": ("nothing_warns", set()),
    "Unused": ("gradients_reach_every_weight", set()),
    "Bare": ("tensors_are_registered", set()),
    "Hides": ("weights_come_back_from_a_file", set()),
    "Fixes32": ("bfloat16_is_close", set()),
    "Blind": ("features_depend_on_media", set()),
    "WritesMedia": ("prepare_leaves_media_alone", set()),
    "Weighs": ("prepare_ignores_weights", set()),
    "Tensors": ("prepared_is_plain_arrays", set()),
    "NoLimit": ("limits_are_enforced", {"bad_prompt_harms_no_neighbour"}),
    "Counts": ("eval_mode_keeps_its_weights", set()),
    "OnDevice": ("builds_on_the_meta_device", set()),
    "TooHigh": (
        "codes_lie_below_the_vocabulary",
        {
            "head_learns_from_its_latents", "head_loss_is_finite", "latents_can_be_fed_back", "packed_equals_alone",
            "replies_do_not_depend_on_neighbours",
        },
    ),
    "AnotherPlan": ("plans_lie_where_media_lie", set()),
    "OneRowFails": ("any_row_count_decodes", set()),
    "Strays": (
        "decode_is_repeatable",
        {
            "bad_prompt_harms_no_neighbour", "checkpoint_gives_the_same_reply", "chunks_equal_the_whole",
            "events_hold_the_whole_part", "replies_do_not_depend_on_neighbours", "same_seed_same_reply",
            "streams_do_not_meet",
        },
    ),
    "Holds": ("codec_learns_its_examples", set()),
    "Rounds": ("latents_are_those_of_the_spec", set()),
    "StreamsLate": ("chunks_come_before_the_end", set()),
    "StreamsWrong": ("chunks_equal_the_whole", set()),
    "StreamsShare": ("streams_do_not_meet", set()),
    "NumpyRows": ("declares_rows_and_look", set()),
    "Infinite": (
        "output_is_finite",
        MODEL - {"later_parts_change_nothing_before", "packed_equals_alone"}
        | {"gradients_reach_every_weight", "interleaves_with_text", "sizes_are_taken"},
    ),
    "Mislabels": (
        "features_have_its_width",
        MODEL | {"interleaves_with_text", "order_of_media_is_kept", "text_trains_the_encoder"},
    ),
    "Remembers": ("refused_media_leave_no_trace", set()),
    "SharesArrays": ("prepare_works_in_threads", set()),
    "SharesInput": ("threads_may_call_at_once", set()),
    "Seedless": ("same_seed_builds_the_same_weights", set()),
    "Grows": ("names_stay_when_it_trains", set()),
    "Unset": ("weights_are_finite", set()),
    "KeepsGraph": ("gradients_are_not_kept", set()),
    "LossOfRows": ("loss_terms_are_finite_scalars", set()),
    "MakesTooMuch": ("what_it_makes_can_be_read", set()),
    "WritesLike": (
        "decode_leaves_like_alone",
        {"bad_prompt_harms_no_neighbour", "checkpoint_gives_the_same_reply", "replies_do_not_depend_on_neighbours"},
    ),
    "FloatCodes": (
        "latents_have_their_form",
        MODEL
        | {
            "guidance_forks_and_joins", "head_learns_from_its_latents", "head_learns_its_examples",
            "head_loss_is_finite", "interleaves_with_text", "latents_can_be_fed_back", "scale_can_be_learned",
        },
    ),
    "NumpyPlan": ("plans_are_valid", set()),
    "AlwaysSeven": ("fixed_plans_hold", set()),
}  # fmt: skip
CAN = replace(broken.CAN, streaming=False)
DECLARED = {  # what a spec says, the check that notices
    "tuples": ({"config": {"fault": "Good", "beside": (1, 2)}}, "config_is_json"),
    "limit": ({"can": replace(CAN, limits={"seconds": 0})}, "limits_are_positive_numbers"),
    "dtype": ({"can": replace(CAN, dtypes=("float32", "float7"))}, "dtypes_are_floating_types"),
    "no factory": ({"factory": "broken:nothing"}, "factory_resolves"),
    "no word": ({"modality": "smell"}, "modality_is_known"),
    "no package": ({"requires": ("nowhere>=2",)}, "requirements_are_met"),
}


def failed(fault: str, **fields) -> set[str]:
    plugins = Registry.isolated()
    plugins.register(broken.Manifest(fault, **fields), "trace")
    sizes = [Trace(np.ones(count)) for count in (1, 13, MOST)]
    refuses = [Trace(np.ones(MOST + 1))]
    default, here = torch.get_default_dtype(), Path(__file__).parent / "left_behind"
    try:
        return {
            f.check for f in run(checks("trace", plugins=plugins, sizes=sizes, refuses=refuses)) if f.status == "fail"
        }
    finally:
        torch.set_default_dtype(default)
        here.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["Good", "GoodCodec"])
def test_without_a_fault_nothing_fails(kind):
    assert failed(kind) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_the_check_that_names_it(fault):
    named, following = FAULTS[fault]
    assert failed(fault) == {named} | following


def test_every_fault_is_tested():
    assert set(FAULTS) == {*broken.ENCODERS, *broken.CODECS} - {"Good", "GoodCodec"}


def manifest_fails(**fields) -> set[str]:
    """Of the tier that looks at declarations: where these are wrong nothing can be built."""
    plugins = Registry.isolated()
    plugins.register(broken.Manifest("Good", **fields), "trace")
    found = [check for check in checks(plugins.encoders[0], plugins=plugins) if check.demand.tier == "manifest"]
    return {finding.check for finding in run(found) if finding.status == "fail"}


@pytest.mark.parametrize("factory", ["crashes", "exits"])
def test_what_ends_its_process_does_not_end_ours(site, factory):
    """It is imported in another process, and where that ends nothing is built in this one."""
    heavy = {"crashes": "import os; os.abort()", "exits": "import sys; sys.exit(3)"}[factory]
    site.add("smell", HEAD + ENCODER_OF_SMELL, heavy=heavy + "\n")
    found = run(checks("smell/one", plugins=site.discover()))
    (failure,) = [finding for finding in found if finding.status == "fail"]
    assert failure.check == "factory_resolves"
    assert {"crashes": "SIGABRT", "exits": "SystemExit: 3"}[factory] in failure.detail
    skipped = [finding for finding in found if finding.status == "skipped"]
    assert {finding.detail for finding in skipped} == {"factory_resolves fails"}
    assert len(skipped) == len([finding for finding in found if finding.tier != "manifest"]) > 40


@pytest.mark.parametrize(("fields", "name"), DECLARED.values(), ids=DECLARED)
def test_each_wrong_declaration_fails_the_check_that_names_it(fields, name):
    assert manifest_fails(**fields) == {name}


def test_hooks_that_change_their_mind():
    class Changes(broken.Manifest):
        calls = 0

        @hookimpl
        def anyany_encoders(self):
            Changes.calls += 1
            yield EncoderSpec(
                id="trace/in",
                modality="trace",
                factory="broken:build",
                config={"fault": "Good", "beside": Changes.calls},
            )

    plugins = Registry.isolated()
    plugins.register(Changes("Good"), "trace")
    found = [check for check in checks("trace", plugins=plugins) if check.demand.tier == "manifest"]
    assert {f.check for f in run(found) if f.status == "fail"} == {"hooks_are_repeatable"}


ENCODER_OF_SMELL = (
    "@hookimpl\n"
    "def anyany_encoders():\n"
    "    yield EncoderSpec(id='smell/one', modality='image', factory='{module}_heavy:build')\n"
)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import sys; sys.modules['pandas'] = sys", "manifest_imports_nothing_heavy"),
        ("sum(i * i for i in range(8_000_000))", "manifest_imports_fast"),
        ("import pathlib; pathlib.Path(__file__).with_name('left').write_text('x')", "manifest_touches_nothing"),
    ],
)
def test_each_fault_of_a_manifest_fails_the_check_that_names_it(site, line, name):
    module = site.add("smell", HEAD + ENCODER_OF_SMELL, heavy="def build(): return 1\n")
    plugins = site.discover()
    with (site.folder / f"{module}.py").open("a") as file:  # the process of the check imports it anew
        file.write(line + "\n")
    found = [c for c in checks("smell/one", plugins=plugins) if c.demand.tier == "manifest"]
    assert {f.check for f in run(found) if f.status == "fail"} == {name}


def test_an_entry_point_that_leads_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "anyany_smell").mkdir()
    (tmp_path / "anyany_smell" / "__init__.py").write_text(HEAD + ENCODER_OF_SMELL.replace("{module}_heavy", "broken"))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "smell"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    import anyany_smell

    plugins = Registry.isolated()
    plugins.register(anyany_smell, "smell")
    (check,) = [c for c in checks("smell/one", plugins=plugins) if c.name == "entry_point_names_the_manifest"]
    with pytest.raises(ConformanceError, match=r'\[project.entry-points.anyany\] smell = "anyany_smell"'):
        check()
    (tmp_path / "pyproject.toml").write_text('[project.entry-points.anyany]\nsmell = "anyany_smell"\n')
    check()
