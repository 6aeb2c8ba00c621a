"""For tests of layers, the library's own and yours: ``strategies`` (needs hypothesis)."""
