"""The options: their declarations, the types of their values, and the TOML file."""
