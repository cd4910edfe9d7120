"""A training run as a folder: what was asked, what was trained, how it went."""
