"""Measurements of our own speed, start-up and memory. Run by `make bench`; imported by nothing."""
