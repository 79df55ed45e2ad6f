"""Drawing a job in the terminal: from a ``TraceView`` to rich renderables. Pure: nothing here speaks to a server."""
