"""Models kept after a run: saved without pickle, answering without the data, exported, and learning on."""
