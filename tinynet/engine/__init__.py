"""What runs a network fast: plans, memory, threads, kernels, and a GPU."""
