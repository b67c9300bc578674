"""``python -m bench run speed``: the comparison that the README quotes, and sweeps over size, length, threads, batch and type."""

from bench.speed.command import speed

__all__ = ["speed"]
