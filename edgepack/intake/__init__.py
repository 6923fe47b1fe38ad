"""Any trained model → ONNX, with the source framework at hand to answer for it."""
