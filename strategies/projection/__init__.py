"""Gradient projection: GPM, TRGP, CUBER, and the spaces of layer inputs they share."""
