"""Tasks and metrics of the core. Their ids have no slash, so that none of a plugin can be mistaken for them."""

from __future__ import annotations

from anyany.plugin.specs import MetricSpec, TaskSpec


def _metric(id: str, factory: str, description: str, *, higher_is_better: bool = True) -> MetricSpec:
    return MetricSpec(
        id=id, modality="text", factory=f"anyany.eval.text:{factory}", description=description,
        higher_is_better=higher_is_better,
    )  # fmt: skip


METRICS = (
    _metric("exact-match", "exact_match", "share of replies that are a reference, blanks at the ends aside"),
    _metric("rouge-l", "rouge_l", "longest common subsequence of words, F1 against the best reference"),
    _metric("bleu", "Bleu", "BLEU of the corpus, 0 to 100, as sacreBLEU gives it by default"),
    _metric("word-error-rate", "WordErrorRate", "word errors per word of the references", higher_is_better=False),
    MetricSpec(
        id="spoken-digit",
        modality="audio",
        factory="anyany.eval.judged:SpokenDigit",
        against="text",
        description="share of sounds in which a judge hears the digit that the reference names",
    ),
)


def _task(id: str, module: str, description: str) -> TaskSpec:
    return TaskSpec(id=id, factory=f"anyany.eval.{module}:{id.replace('-', '_')}", description=description)


TASKS = (
    _task("image-to-text", "tasks_digits", "MNIST test picture -> word"),
    _task("speech-to-text", "tasks_digits", "test recording -> word"),
    _task("speech-to-text-unseen", "tasks_digits", "recording of a speaker never trained on -> word"),
    _task("text-to-image", "tasks_digits", "word -> picture"),
    _task("text-to-speech", "tasks_digits", "word -> speech"),
    _task("image-to-speech", "tasks_digits", "picture -> speech at once, a pair that was never trained"),
    _task("speech-to-image", "tasks_digits", "speech -> picture at once, a pair that was never trained"),
    _task("image-to-speech-via-text", "tasks_digits", "picture -> word, then speech"),
    _task("speech-to-image-via-text", "tasks_digits", "speech -> word, then picture"),
    _task("arithmetic", "tasks_digits", "two digits in any form -> word of the result"),
    _task("video-to-text", "tasks_digits", "clip -> which digit moves where"),
    _task("text-to-video", "tasks_digits", "sentence -> clip"),
    _task("forecast-etth1", "tasks_time", "336 hours of ETTh1 -> the next 96"),
    _task("forecast-etth2", "tasks_time", "336 hours of ETTh2 -> the next 96"),
    _task("series-to-text", "tasks_time", "TRUCE test series -> caption"),
    _task("text-to-series", "tasks_time", "TRUCE test caption -> series"),
    _task("motion-to-text", "tasks_time", "clip cut, retimed and mirrored -> name"),
    _task("text-to-motion", "tasks_time", "name -> movement"),
    _task("binding", "tasks_binding", "digits find each other between text, picture, speech and clip"),
    _task("decides", "tasks_choices", "mixed requests -> the modalities that a person would expect"),
    _task("follows", "tasks_choices", "draw a digit and write which -> the word fits the picture"),
)
"""Of mini, in the order in which they run."""
