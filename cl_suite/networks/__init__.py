"""Backbones by kind of input, heads, encoders, and what is inside a network."""
