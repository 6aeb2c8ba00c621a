"""A digest of this package's sources: compiled code is kept under a name that ends with it."""

from __future__ import annotations

import hashlib
from importlib.resources import files


def digest(package: str = __package__) -> str:
    """Eight hexadecimal digits that change with any Python source of ``package``."""
    total = hashlib.sha256()
    for source in sorted(files(package).iterdir(), key=lambda source: source.name):
        if source.name.endswith(".py"):
            total.update(source.read_bytes())
    return total.hexdigest()[:8]


DIGEST = digest()
