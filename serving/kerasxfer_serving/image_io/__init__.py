"""Bytes of an image file to uint8 pixels: decoding, resizing, and the golden images that hold both still."""
