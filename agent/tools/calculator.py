"""A calculator: arithmetic that a model need not do in its head, at a bounded cost."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import simpleeval  # type: ignore[import-untyped]  # it ships no annotations

from .tool import ToolError

_MOST_CHARACTERS = 1_000
_MOST_BITS = 10_000
_MOST_ITEMS = 1_000


def calculator(expression: str) -> str:
    """Calculate an arithmetic expression.

    Numbers, + - * / // % ** ( ), comparisons; pi, e, tau; abs, ceil, cos, degrees, exp, factorial, floor, gcd, hypot,
    log, log10, log2, max, min, radians, round, sin, sqrt, tan. Whole numbers are exact, others have 15 digits.

    Args:
        expression: For example `(3 + 4) * sqrt(2) / 1e3`.
    """
    if len(expression) > _MOST_CHARACTERS:
        raise ToolError(f"the expression has {len(expression):,} characters; at most {_MOST_CHARACTERS:,} are taken")
    try:
        return _shown(_evaluator().eval(expression.strip(), ast.parse(expression.strip(), mode="eval").body))
    except simpleeval.OperatorNotDefined as error:
        raise ToolError("an operator is not one of + - * / // % **; a power is written 2 ** 10") from error
    except simpleeval.InvalidExpression as error:
        raise ToolError(str(error)) from error
    except SyntaxError as error:
        raise ToolError(f"this is no arithmetic expression: {error.msg}") from error
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ToolError(f"this cannot be calculated: {str(error) or type(error).__name__}") from error


def _evaluator() -> Any:
    """Return an evaluator that knows numbers and nothing else.

    simpleeval walks the tree and looks names up. Its own operators take exponents of four millions, and strings and
    attributes can be made to fill the memory, so the operators are ours and all other kinds of nodes are taken out.
    """
    evaluator = simpleeval.SimpleEval(operators=dict(_OPERATORS), functions=dict(_FUNCTIONS), names=dict(_NAMES))
    evaluator.nodes = {kind: handler for kind, handler in evaluator.nodes.items() if kind in _NODES}
    return evaluator


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ToolError(f"the result is {value}")
        return format(value, ".15g")
    return str(_number(value))


def _number(value: Any) -> Any:
    """Return a value that is a real number of a bearable size.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, int | float):
        raise ValueError(f"{type(value).__name__} is no real number")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError(f"a number has more than {_MOST_BITS:,} bits")
    return value


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes and gives only numbers of a bearable size."""
    return lambda *values: _number(function(*map(_number, values)))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _MOST_BITS:
        raise ValueError(f"the power has more than {_MOST_BITS:,} bits")  # before it is worked out
    return base**exponent


def _factorial(number: Any) -> Any:
    if number > _MOST_ITEMS:
        raise ValueError(f"factorial of more than {_MOST_ITEMS:,}")
    return math.factorial(number)


def _round(number: Any, digits: Any = None) -> Any:
    if digits is not None and abs(digits) > _MOST_ITEMS:  # round(5, -10**9) works out 10**(10**9)
        raise ValueError(f"round to more than {_MOST_ITEMS:,} digits")
    return round(number, digits)


_NODES = frozenset({ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant})

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _bounded(operator.add),
    ast.Sub: _bounded(operator.sub),
    ast.Mult: _bounded(operator.mul),
    ast.Div: _bounded(operator.truediv),
    ast.FloorDiv: _bounded(operator.floordiv),
    ast.Mod: _bounded(operator.mod),
    ast.Pow: _bounded(_power),
    ast.USub: _bounded(operator.neg),
    ast.UAdd: _bounded(operator.pos),
    ast.Eq: _bounded(operator.eq),
    ast.NotEq: _bounded(operator.ne),
    ast.Lt: _bounded(operator.lt),
    ast.LtE: _bounded(operator.le),
    ast.Gt: _bounded(operator.gt),
    ast.GtE: _bounded(operator.ge),
}

_FUNCTIONS = {
    "factorial": _bounded(_factorial),
    "round": _bounded(_round),
    **{function.__name__: _bounded(function) for function in (abs, max, min)},
    **{
        name: _bounded(getattr(math, name))
        for name in (
            *("ceil", "cos", "degrees", "exp", "floor", "gcd", "hypot", "log", "log10", "log2"),
            *("radians", "sin", "sqrt", "tan"),
        )
    },
}

_NAMES = {"pi": math.pi, "e": math.e, "tau": math.tau}
