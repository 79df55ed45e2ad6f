"""Batches: a file of requests, answered in the background through the same routes as single ones."""
