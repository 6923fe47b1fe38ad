"""Is it still the same model? Golden tensors, and comparison with the source framework after every stage."""
