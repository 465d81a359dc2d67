"""Pictures in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, ImporterSpec, MetricSpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """The patch encoder, and a vision transformer for weights of others."""
    yield EncoderSpec(
        id="image/patch",
        modality="image",
        factory="anyany_image.patch:build_encoder",
        config={"size": 28, "channels": 1, "patch": 7, "width": 128, "depth": 2, "heads": 4},
        can=Capabilities(dtypes=("float32", "bfloat16")),
    )
    yield EncoderSpec(
        id="image/vit",
        modality="image",
        factory="anyany_image.vit:build_encoder",
        config={
            "size": 28, "channels": 3, "patch": 7, "width": 64, "depth": 2, "heads": 4, "hidden": 128,
            "activation": "gelu_tanh", "eps": 1e-6, "class_row": False, "patch_bias": True, "first_norm": False,
            "layers": [], "keep_class": False, "two_way": False,
            "processing": {"edge": None, "resample": 3, "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3},
        },
        can=Capabilities(dtypes=("float32", "bfloat16", "float16")),
        by_id=True,
    )  # fmt: skip


@hookimpl
def anyany_importers():
    """Models of others that see."""
    yield ImporterSpec(id="image/llava", model_types=("llava",), factory="anyany_image.llava:importer")
    yield ImporterSpec(id="image/gemma3", model_types=("gemma3",), factory="anyany_image.gemma3:importer")


@hookimpl
def anyany_codecs():
    """The codec of finite scalar quantisation."""
    yield CodecSpec(
        id="image/fsq",
        modality="image",
        factory="anyany_image.codec:build_codec",
        latents=Codes(vocab=1000),
        config={"size": 28, "channels": 1, "grid": 4, "levels": [8, 5, 5, 5], "width": 64},
    )


@hookimpl
def anyany_metrics():
    """Nearness to a picture of the same size."""
    yield MetricSpec(
        id="image/psnr",
        modality="image",
        factory="anyany_image.metrics:psnr",
        description="peak signal-to-noise ratio in dB, at most 100",
    )
    yield MetricSpec(
        id="image/ssim",
        modality="image",
        factory="anyany_image.metrics:ssim",
        description="structural similarity, 1 for equal pictures",
    )
