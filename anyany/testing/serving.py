"""What a server relies on: limits that hold, plans that fit into a cache, and calls from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from anyany.errors import MediaError
from anyany.model.running import CACHE_ROWS
from anyany.testing.compare import same
from anyany.testing.kit import demand, fail, hold
from anyany.testing.subject import Subject


@demand(lambda subject: bool(subject.sizes))
def sizes_are_taken(subject: Subject) -> None:
    """Each of the sizes that the author gave (one element, odd, the largest) goes in and gives what was declared."""
    component = subject.build()
    for media in subject.sizes:
        item = component.prepare(media)
        made = subject.run(component, [item])
        wrong = ~made.isfinite() if subject.encodes else made.isinf()
        hold(len(made) == item.rows, f"{item.rows} rows of {media!r:.80}", len(made), "count in prepare() what comes")
        hold(not wrong.any(), f"finite numbers of {media!r:.80}", "others", "look at means and deviations of little")


@demand(lambda subject: bool(subject.refuses))
def limits_are_enforced(subject: Subject) -> None:
    """What exceeds its limits is refused when it is prepared, with a ``MediaError`` that names a number."""
    component = subject.build()
    for media in subject.refuses:
        try:
            component.prepare(media)
        except MediaError as error:
            numbered = any(letter.isdigit() for letter in str(error))
            hold(numbered, "an error that names the limit", str(error), "say what the limit is and what came")
        except Exception as error:
            fail("a MediaError for media beyond a limit", f"{type(error).__name__}: {error}", "look at the size first")
        else:
            fail("a MediaError for media beyond a limit", "no error", "look at the size in prepare()")


@demand(lambda subject: subject.decodes)
def plans_fit_the_cache(subject: Subject) -> None:
    """A planned span with its marks fits into the cache of one call."""
    rows = subject.build().plan().rows + 2
    hold(rows <= CACHE_ROWS, f"at most {CACHE_ROWS} rows", rows, "put more of the media into a row")


@demand()
def threads_may_call_at_once(subject: Subject) -> None:
    """Two threads that run it at once each get what a call alone gives."""
    component = subject.build()
    batch = subject.batch(component)
    alone = [subject.run(component, [item]) for item in batch]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda item: subject.run(component, [item]), batch * 2))
    for made, wanted in zip(together, alone * 2, strict=True):
        same(made, wanted, "what a call alone gives", "keep nothing on self in the forward pass")


@demand()
def gradients_are_not_kept(subject: Subject) -> None:
    """Without gradients, nothing that it returns holds on to a graph: a server would run out of memory."""
    component = subject.build()
    with torch.no_grad():
        made = subject.run(component, subject.batch(component))
    hold(not made.requires_grad, "a tensor without a graph", "one that requires gradients", "do not turn gradients on")
