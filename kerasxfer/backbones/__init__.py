"""Pretrained networks: those of `keras.applications`, and the small one that comes with the package."""
