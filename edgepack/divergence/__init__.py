"""Where two models part: their layers side by side on the same inputs."""
