"""Foreign checkpoints -> models of ours: tables of names, plus a few rules; and back."""
