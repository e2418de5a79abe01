"""Finetune: train on each experience as it comes, with nothing against forgetting. The lower bound."""

from cl_suite import GradientStrategy


class Finetune(GradientStrategy):
    """Plain gradient descent on each experience in turn: the lower bound every method is judged against."""

    costs = "keeps nothing; one forward and backward pass a step, which others are held against"
