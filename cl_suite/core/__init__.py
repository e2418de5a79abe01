"""The narrow waist: what harness, strategies and streams say to each other. Imports nothing of the house."""
