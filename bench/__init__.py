"""Measurements of the library: ``python -m bench speed``. Results are JSON files; tables are made from them."""
