"""Tokens out: continuous batching over the sequences that callers add. Knows no sockets, files or model names."""
