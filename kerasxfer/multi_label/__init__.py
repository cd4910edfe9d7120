"""Several labels to an image: where each begins to fit, and how good a model is at saying so."""
