"""The log and the reject file. Native threads write both, from bounded queues."""
