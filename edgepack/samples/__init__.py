"""Representative data: whatever the user has (arrays, images, a generator, a table), as rows that fit a model's inputs."""
