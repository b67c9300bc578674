"""Measurements: ``python -m bench --help``. Results are JSON files; tables and plots are made from them."""
