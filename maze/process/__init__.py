"""The process: its limits, its memory, its signals, its supervisor."""
