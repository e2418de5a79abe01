"""Replay: samples kept in a buffer, and what is done with them."""
