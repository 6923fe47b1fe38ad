"""Models that TensorFlow opens. Imported in the child process only."""
