"""The soak: a long run with every kind of fault. Every delivered byte is checked, nothing grows."""
