"""What request bodies may hold: pydantic models with a bound on every number, string and list."""
