"""What this machine has, and what stands in the way."""
