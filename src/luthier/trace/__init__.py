"""The event log of a run: small typed events, written as JSON lines, and the views made from them."""
