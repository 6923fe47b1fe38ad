"""Programs that only a Jetson has, as stand-ins: they replay what the real ones printed (recordings/, each with its source)."""
