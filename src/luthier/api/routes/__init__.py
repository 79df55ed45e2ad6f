"""One file per resource; each holds a router that ``app.py`` lists."""
