"""For tests of layers, the library's own and yours.

strategies      drawn geometries and inputs (needs hypothesis)
statistics      is the randomness right? what no gradient check can see
planted         wrong backward passes, to check gradient checkers with
usual_checks    the gradient checks that people use, to compare with
"""
