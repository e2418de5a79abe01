"""Preferences: IBCL, and what it is judged against."""
