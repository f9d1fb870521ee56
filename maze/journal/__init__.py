"""The journal: an ordered log of batches, which outlives a connection or the process."""
