"""The log and the reject file; native threads write both, behind bounded queues."""
