"""Publication of a trained run: export to ONNX, half-precision weights, model card."""
