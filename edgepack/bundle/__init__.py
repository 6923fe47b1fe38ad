"""Bundles: what is in them, how they are written, opened and verified."""
