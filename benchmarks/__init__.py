"""Streams: one file, one family of data. No training code."""
