"""Avalanche, both ways: its strategies on our streams, its benchmarks as our streams, our streams as its benchmarks."""
