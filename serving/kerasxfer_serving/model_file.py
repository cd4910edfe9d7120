"""The address of `model.model_file` in the documentation."""

from kerasxfer_serving.model.model_file import load_model_file as load_model_file
