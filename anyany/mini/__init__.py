"""The default model: its data, its recipes, its weights. See ``weights/README.md`` for the model card."""
