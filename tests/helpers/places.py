"""Where the repository lies, for tests that read its pages, settings and committed results."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
