"""Gradient projection: what a layer's earlier inputs span, and how to keep or use it (GPM, TRGP, CUBER)."""
