"""Who made a bundle, and may they: keys, signatures, trust files. The rules themselves are `runtime/agent/edgepack_trust.py`'s."""
