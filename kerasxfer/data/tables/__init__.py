"""Tables of images and labels, as people have them, made into rows: reading, columns, labels, files."""
