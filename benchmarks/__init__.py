"""Speed of tinynet beside its peers: the results are checked first, then the clock is read."""
