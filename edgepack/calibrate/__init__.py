"""What values a model's tensors take on representative inputs, and the ranges that follow from that."""
