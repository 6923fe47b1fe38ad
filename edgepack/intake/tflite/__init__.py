"""TFLite in: a flatbuffer, checked and made plain, → ONNX. Imported in the child process only."""
