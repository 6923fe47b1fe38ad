"""ONNX → ONNX (→ ORT) steps: one file each, an immutable dataclass whose fields are its options."""
