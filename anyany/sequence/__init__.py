"""Layout of packed sequences: spans, intervals, coordinates. Integers only: no weights, no media."""
