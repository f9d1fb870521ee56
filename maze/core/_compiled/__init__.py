"""The compiled versions of modules of ``maze.core`` and of ``maze.pipeline.outbox``."""
