"""Supermasks: masked layers, their training, storage, and inference of the task."""
