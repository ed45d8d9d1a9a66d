"""Which channels of a measurement are bad, and whether a file can be what it is said to be."""
