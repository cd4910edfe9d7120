"""What frozen features know about a data set, measured by linear heads: the ground of `audit` and `choose`."""
