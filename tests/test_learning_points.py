"""Scores while a task is learned, and LIBERO's figures of them."""
