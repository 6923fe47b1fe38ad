"""edgepack's web bundles against TensorFlow.js and LiteRT.js."""
