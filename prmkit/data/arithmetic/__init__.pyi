from ._generator import make_arithmetic_solutions as make_arithmetic_solutions

__all__ = ["make_arithmetic_solutions"]
