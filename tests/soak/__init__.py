"""The soak: a server under all there is, for long, every delivered byte checked, nothing grows."""
