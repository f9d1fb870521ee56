"""The verdict: what each client received, compared with what it must receive; the latency."""
