"""The verdict: what each client received against what it had to, and the latency of it."""
