"""Curves of a run while it goes on, in TensorBoard, Weights & Biases or MLflow: `cl-bench --log`.

A process of its own writes them, through those libraries. So a run draws the same random numbers, needs the same
memory and takes the same time with and without it, and what a library does (wait for a server, fill a disk, end the
process) is no matter of the run's.
"""
