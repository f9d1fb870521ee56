"""The compiled twins of modules of ``maze.core``, and that of ``maze.pipeline.outbox``."""
