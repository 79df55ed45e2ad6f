"""The door: OpenAI's HTTP API over the office's stores, the queue and the engine host. Starts without torch."""
