"""Guards of the shape of the house: sizes, names, imports, documents."""
