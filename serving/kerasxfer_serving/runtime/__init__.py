"""Sessions in ONNX Runtime and OpenVINO: devices, precisions, threads and batch sizes."""
