"""All tasks by id, and their figures for a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from anyany.errors import RequestError
from anyany.eval import tasks_choices, tasks_digits, tasks_time
from anyany.eval.scores import Score

if TYPE_CHECKING:
    from anyany.model import Model

Task = Callable[["Model", int], Score]

TASKS: dict[str, Task] = {
    "image-to-text": tasks_digits.image_to_text,
    "speech-to-text": tasks_digits.speech_to_text,
    "speech-to-text-unseen": tasks_digits.speech_to_text_unseen,
    "text-to-image": tasks_digits.text_to_image,
    "text-to-speech": tasks_digits.text_to_speech,
    "image-to-speech": tasks_digits.image_to_speech,
    "speech-to-image": tasks_digits.speech_to_image,
    "image-to-speech-via-text": tasks_digits.image_to_speech_via_text,
    "speech-to-image-via-text": tasks_digits.speech_to_image_via_text,
    "arithmetic": tasks_digits.arithmetic,
    "video-to-text": tasks_digits.video_to_text,
    "text-to-video": tasks_digits.text_to_video,
    "forecast-etth1": tasks_time.forecast_etth1,
    "forecast-etth2": tasks_time.forecast_etth2,
    "series-to-text": tasks_time.series_to_text,
    "text-to-series": tasks_time.text_to_series,
    "motion-to-text": tasks_time.motion_to_text,
    "text-to-motion": tasks_time.text_to_motion,
    "decides": tasks_choices.decides,
    "follows": tasks_choices.follows,
}


def evaluate(model: Model, tasks: Sequence[str] = (), limit: int = 100_000) -> Iterator[tuple[str, Score]]:
    """Figures task by task, as they come.

    Args:
        model: To be judged.
        tasks: Ids; none stands for all.
        limit: Most items of a task (for forecasts: windows of a channel).

    Raises:
        RequestError: No such task.
        DataError: The data of a task is not there.
    """
    for name in tasks:
        if name not in TASKS:
            raise RequestError(f"eval: no task {name!r}; tasks are {', '.join(TASKS)}")
    for name in tasks or TASKS:
        began = time.perf_counter()
        score = TASKS[name](model, limit)
        yield name, {**score, "seconds": round(time.perf_counter() - began, 1)}
