"""What the office remembers: a SQLite database and a content-addressed folder of bytes. The only room that knows SQL."""
