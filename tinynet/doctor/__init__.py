"""``python -m tinynet doctor``: how fast this machine is for tinynet, and what holds it back.

Facts are read (``machine``, ``blas``, ``packages``, ``gpu``), rates are measured (``rates``), and
rules turn both into advice (``advice``), each piece with the one step that mends it.
``openblas`` tries exported settings of OpenBLAS and starts a program again without them.
"""
