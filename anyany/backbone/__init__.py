"""The decoder-only stack, its attention primitive and its cache. It never sees media."""
