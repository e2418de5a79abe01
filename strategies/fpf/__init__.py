"""Forgetting prioritised finetuning: FPF, k-FPF, and the choice of modules."""
