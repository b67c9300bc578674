"""``python -m bench run speed --device cuda``: what an accelerator makes of this package, in minutes."""
