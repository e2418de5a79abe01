"""Benchmarks of Avalanche's, by name."""
