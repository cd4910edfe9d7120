"""The demo: pictures that the project draws itself, a small backbone trained on other ones, and the way through."""
