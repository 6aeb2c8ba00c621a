"""python -m tinynet.testing.planted [FILE]: run every planted bug, write docs/planted.md."""

from tinynet.testing.planted.table import main

if __name__ == "__main__":
    main()
