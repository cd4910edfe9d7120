"""ONNX Runtime: sessions, execution providers, threads and batch sizes."""
