"""Distributions over the parameters of a network: mean-field Gaussians, and training them by variational inference."""
