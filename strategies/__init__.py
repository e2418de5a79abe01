"""Strategies: one file, one paper. They import cl_suite and nothing of each other."""
