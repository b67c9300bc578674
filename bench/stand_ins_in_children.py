"""Imported first by processes that load clips, where something is missing: see ``bench.stand_ins``."""

from bench.stand_ins import install

install()
