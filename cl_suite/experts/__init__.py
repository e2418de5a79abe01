"""Experts found along a stream: when the loss says the task has changed, what is kept of an expert, who is asked."""
