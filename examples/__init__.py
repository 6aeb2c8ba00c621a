"""Examples of tinynet at work."""
