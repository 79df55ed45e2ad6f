"""The front door for people: one file per command. Light: starts worker and engine host as processes, imports neither."""
