"""Symbols to bytes and back: range coding with stored tables, integer contexts, the formats around them."""
