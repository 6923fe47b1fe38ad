"""Rewrites that make a float graph faster without changing its answers: one file each, applied by the step `tune`."""
