"""Which check has to notice which fault, and which checks must fail with it."""

from __future__ import annotations

from dataclasses import replace

from broken import CAN

MODEL = {
    "bad_prompt_harms_no_neighbour", "cached_equals_uncached", "checkpoint_gives_the_same_reply",
    "later_parts_change_nothing_before", "packed_equals_alone", "replies_do_not_depend_on_neighbours",
    "rollback_leaves_no_trace", "same_seed_same_reply",
}  # fmt: skip
"""What runs a component that raises, or that contradicts itself, in a model."""
FAULTS = {
    "WrongRows": ("declared_equals_produced", MODEL | {"batch_equals_singles", "sizes_are_taken"}),
    "MixesItems": (
        "batch_equals_singles",
        {
            "bad_prompt_harms_no_neighbour", "later_parts_change_nothing_before", "packed_equals_alone",
            "replies_do_not_depend_on_neighbours",
        },
    ),
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
    "Weighs": ("prepare_ignores_weights", {"prepare_works_in_a_worker"}),
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
    "Tupled": ("builds_from_a_checkpoint", {"checkpoint_gives_the_same_reply", "config_is_json"}),
    "Displaced": (
        "example_is_of_its_modality",
        MODEL | {"interleaves_with_text", "order_of_media_is_kept", "text_trains_the_encoder"},
    ),
    "Padded": ("example_is_small", set()),
    "Stamps": (
        "prepare_is_repeatable",
        {"prepare_ignores_weights", "prepare_works_in_a_worker", "prepare_works_in_threads"},
    ),
    "Locks": ("prepare_works_in_a_worker", set()),
    "Reorders": ("order_of_items_carries_over", set()),
    "Infers": ("runs_in_inference_mode", set()),
    "Narrow": ("float16_and_float64_are_close", set()),
    "Stays": ("follows_its_weights", set()),
    "Pairs": ("interleaves_with_text", {"later_parts_change_nothing_before", "text_trains_the_encoder"}),
    "BlindRows": ("order_of_media_is_kept", {"features_depend_on_media"}),
    "Doubles": ("later_parts_change_nothing_before", {"bad_prompt_harms_no_neighbour"}),
    "Triples": ("packed_equals_alone", {"replies_do_not_depend_on_neighbours"}),
    "Widens": (
        "text_is_as_without_it",
        {
            "cached_equals_uncached", "global_state_stays", "later_parts_change_nothing_before",
            "order_of_media_is_kept", "packed_equals_alone", "rollback_leaves_no_trace",
            "same_seed_builds_the_same_weights", "text_trains_the_encoder", "weights_come_back_from_a_file",
        },
    ),
    "Grudges": ("bad_prompt_harms_no_neighbour", {"refused_media_leave_no_trace"}),
    "Detaches": ("text_trains_the_encoder", {"gradients_reach_every_weight"}),
    "Sticks": ("training_mode_can_be_left", set()),
    "Deviates": ("sizes_are_taken", {"gradients_reach_every_weight", "output_is_finite"}),
    "NoLoss": (
        "answers_what_the_contract_names",
        {
            "codec_learns_its_examples", "gradients_reach_every_weight", "loss_terms_are_finite_scalars",
            "names_stay_when_it_trains", "training_mode_can_be_left",
        },
    ),
    "BelowZero": (
        "latents_can_be_fed_back",
        {
            "codes_lie_below_the_vocabulary", "head_learns_from_its_latents", "head_loss_is_finite",
            "packed_equals_alone", "replies_do_not_depend_on_neighbours",
        },
    ),
    "LongFails": ("decodes_to_its_modality", set()),
    "SingleFails": (
        "budget_closes_the_span",
        {"any_row_count_decodes", "decodes_to_its_modality", "guidance_forks_and_joins"},
    ),
    "StraysBehind": (
        "same_seed_same_reply",
        {
            "bad_prompt_harms_no_neighbour", "checkpoint_gives_the_same_reply", "replies_do_not_depend_on_neighbours",
        },
    ),
    "Overhears": ("replies_do_not_depend_on_neighbours", {"bad_prompt_harms_no_neighbour"}),
    "HidesShift": ("checkpoint_gives_the_same_reply", set()),
    "StreamsMoved": ("events_hold_the_whole_part", {"chunks_equal_the_whole", "streams_do_not_meet"}),
    "ShortPlan": (
        "step_by_step_equals_teacher_forced",
        {
            "bad_prompt_harms_no_neighbour", "budget_closes_the_span", "checkpoint_gives_the_same_reply",
            "events_hold_the_whole_part", "guidance_forks_and_joins", "interleaves_with_text", "plans_are_valid",
            "replies_do_not_depend_on_neighbours", "same_seed_same_reply",
        },
    ),
    "PlansAhead": ("plans_fit_the_cache", {"what_it_makes_can_be_read"}),
    "Deaf": ("quantiles_are_taken", set()),
    "InfiniteVectors": (
        "head_loss_is_finite",
        {"head_learns_its_examples", "output_is_finite", "sizes_are_taken"},
    ),
    "NothingThere": ("head_learns_from_its_latents", {"scale_can_be_learned"}),
    "HalfThere": ("scale_can_be_learned", set()),
    "Drifts": ("head_learns_its_examples", set()),
}  # fmt: skip
"""Of components: the class in ``broken_encoders.py`` or ``broken_codecs.py``."""
DECLARED = {
    "media": ({"media": "broken:Manifest"}, "media_class_fits_its_word"),
    "tuples": ({"config": {"fault": "Good", "beside": (1, 2)}}, "config_is_json"),
    "limit": ({"can": replace(CAN[True], limits={"seconds": 0})}, "limits_are_positive_numbers"),
    "dtype": ({"can": replace(CAN[True], dtypes=("float32", "float7"))}, "dtypes_are_floating_types"),
    "no factory": ({"factory": "broken:nothing"}, "factory_resolves"),
    "no word": ({"modality": "smell"}, "modality_is_known"),
    "no package": ({"requires": ("nowhere>=2",)}, "requirements_are_met"),
}
"""Of declarations: what a spec says."""
TESTED = {
    "entry_point_names_the_manifest": "test_an_entry_point_that_leads_elsewhere",
    "gives_what_it_remembers": "test_other_numbers_than_those_that_are_remembered",
    "hooks_are_repeatable": "test_hooks_that_change_their_mind",
    "manifest_imports_fast": "test_each_fault_of_a_manifest_fails_the_check_that_names_it",
    "manifest_imports_nothing_heavy": "test_each_fault_of_a_manifest_fails_the_check_that_names_it",
    "manifest_touches_nothing": "test_each_fault_of_a_manifest_fails_the_check_that_names_it",
}
"""Faults that are no class, and the test that makes them."""
WITHOUT = {
    "cached_equals_uncached": "Rows are made once and asked for in two ways: only the engine can contradict itself.",
    "rollback_leaves_no_trace": "As above; a component that raises fails it, as WrongRows does.",
    "guidance_forks_and_joins": "The branch is the head's; a codec can only fail to decode what comes of it.",
    "gives_the_same_on_a_gpu": "Looks only where there is a GPU; there a test takes Stays.",
}
"""Checks without a fault of their own, and why none can be made."""
