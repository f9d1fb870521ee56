"""The options: their declaration, their types, and the file that may hold them."""
