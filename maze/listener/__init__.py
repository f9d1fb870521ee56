"""Who is let in: listening, limits, addresses, TLS and its certificates."""
