"""Stored samples: readers, normalisation, texts as bytes, tokenizers, tokens."""
