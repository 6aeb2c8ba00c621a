"""Train a VGG-like network on the MURA radiographs, and say what a radiologist would ask.

    python -m examples.mura demo        the whole thing on synthetic radiographs
    python -m examples.mura --help      every command

Not for clinical use.
"""
