"""The stream: its events, the faults in it, and the bytes that each client must receive."""
