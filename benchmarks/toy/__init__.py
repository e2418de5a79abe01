"""Synthetic streams, which need no files."""
