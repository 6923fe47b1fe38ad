"""The board's side of `edgepack flash`; see runtime/agent/README.md."""
