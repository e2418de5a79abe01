"""LIBERO: streams, files, simulator and scripted experts."""
