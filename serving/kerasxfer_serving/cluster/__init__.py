"""The same pipeline on a Ray cluster, in front of the same writer."""
