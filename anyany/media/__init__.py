"""All byte -> array decoding (and array -> byte encoding), with limits. Returns plain arrays."""
