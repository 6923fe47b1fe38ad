"""The board's side of flashing: the states, the journal, recovery; what the board is; engines, probes, latency."""
