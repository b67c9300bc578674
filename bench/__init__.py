"""Measurements: ``python -m bench --help``. Results are JSON files; tables and plots are made from them.

README.md beside this file shows what was measured, each table under the command that makes it.
"""

from reducio_codec.io.own_process import settle_in

settle_in()  # before anything here loads torch
