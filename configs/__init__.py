"""Presets shipped with cl-suite: protocols and whole published settings, as YAML."""
