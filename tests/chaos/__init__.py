"""Chaos: break one part of a running service, and prove that no client notices."""
