"""What a model file says, and what it is allowed to be."""
