"""Whole folders: which files become which, and processes that make them."""
