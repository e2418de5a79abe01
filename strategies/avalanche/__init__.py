"""Strategies of Avalanche's, by name."""
