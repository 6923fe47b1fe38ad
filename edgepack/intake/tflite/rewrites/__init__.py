"""Changes to a TFLite flatbuffer that leave its answers as they are and make it plain enough for tf2onnx; one file each."""
