"""Pure tensor functions: no modules, no MMDetection."""
