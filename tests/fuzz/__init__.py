"""Fuzzing of everything that reads bytes which others wrote; docs/FUZZING.md says how and what was found."""
