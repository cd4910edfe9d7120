"""The address of `image_io.golden` in the documentation."""

from kerasxfer_serving.image_io.golden import changed as changed
