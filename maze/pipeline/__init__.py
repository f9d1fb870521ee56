"""The path of an event around the core: source, router, sessions."""
