"""``anyany demo``: real inputs, interleaved conversations, a page to look at."""
