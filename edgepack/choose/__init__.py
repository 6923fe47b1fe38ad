"""Which of the precisions that are legal on a device is worth it: measured for accuracy, then for speed."""
