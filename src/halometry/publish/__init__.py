"""Runs for others: ONNX files, and folders or Hub repositories with a model card."""
