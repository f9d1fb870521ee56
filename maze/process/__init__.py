"""The operating-system process: limits, memory, signals, supervisor."""
