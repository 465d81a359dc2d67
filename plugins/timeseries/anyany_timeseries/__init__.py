"""Series in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, EncoderSpec, MetricSpec, Vectors, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """The patch encoder."""
    yield EncoderSpec(
        id="timeseries/patch",
        modality="timeseries",
        factory="anyany_timeseries.encoder:build_encoder",
        config={"patch": 24, "width": 128, "depth": 2, "heads": 4},
        can=Capabilities(dtypes=("float32", "bfloat16"), limits={"rows": 1024}),
    )


@hookimpl
def anyany_codecs():
    """The patch codec."""
    yield CodecSpec(
        id="timeseries/patches",
        modality="timeseries",
        factory="anyany_timeseries.codec:build_codec",
        latents=Vectors(dim=25, objective="regression", quantiles=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        config={"patch": 24, "patches": 8, "past": 336},
        can=Capabilities(quantiles=True, limits={"rows": 1024}),
    )


@hookimpl
def anyany_metrics():
    """Errors of forecasts."""
    for name, description, config in (
        ("mse", "mean squared error", {}),
        ("mae", "mean absolute error", {}),
        ("mase", "mean absolute error over that of the naive forecast within the past", {"season": 1}),
        ("quantile-loss", "pinball loss, mean over the levels of the bands", {}),
        ("crps", "continuous ranked probability score from the bands", {}),
    ):
        yield MetricSpec(
            id=f"timeseries/{name}",
            modality="timeseries",
            factory=f"anyany_timeseries.metrics:{name.replace('-', '_')}",
            higher_is_better=False,
            description=description,
            config=config,
        )
