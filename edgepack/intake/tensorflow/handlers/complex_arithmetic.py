"""Products, sums and quotients of complex tensors, written with their real parts."""

from __future__ import annotations

from collections.abc import Callable

from edgepack.intake.tensorflow.handlers.pairs import Pair, Writer

#: Two real tensors in, one out: a product of some kind, linear in both.
Product = Callable[[str, str], str]


def add(write: Writer, a: str | None, b: str | None) -> str | None:
    """a + b, where None is zero."""
    return write.onnx("Add", [a, b]) if a and b else a or b


def subtract(write: Writer, a: str | None, b: str | None) -> str | None:
    """a − b, where None is zero."""
    if a and b:
        return write.onnx("Sub", [a, b])
    return write.onnx("Neg", [b]) if b else a


def product(write: Writer, a: Pair, b: Pair, real: Product) -> Pair:
    """(a.real + i·a.imag)·(b.real + i·b.imag) for any product of which `real` is the real form."""

    def of(x: str | None, y: str | None) -> str | None:
        return real(x, y) if x and y else None

    first = subtract(write, real(a.real, b.real), of(a.imag, b.imag))
    assert first is not None
    return Pair(real=first, imag=add(write, of(a.real, b.imag), of(a.imag, b.real)))


def quotient(write: Writer, a: Pair, b: Pair) -> Pair:
    """a / b = a·conj(b) / |b|²."""

    def divide(x: str | None, y: str) -> str | None:
        return write.onnx("Div", [x, y]) if x else None

    norm = b.real
    if b.imag:
        a = product(write, a, conjugate(write, b), lambda x, y: write.onnx("Mul", [x, y]))
        norm = squared_norm(write, b)
    real = divide(a.real, norm)
    assert real is not None
    return Pair(real=real, imag=divide(a.imag, norm))


def conjugate(write: Writer, a: Pair) -> Pair:
    """a with its imaginary part negated."""
    return Pair(real=a.real, imag=subtract(write, None, a.imag))


def squared_norm(write: Writer, a: Pair) -> str:
    """real² + imag²."""
    total = add(
        write,
        write.onnx("Mul", [a.real, a.real]),
        write.onnx("Mul", [a.imag, a.imag]) if a.imag else None,
    )
    assert total is not None
    return total


def norm(write: Writer, a: Pair) -> str:
    """|a|."""
    if a.imag is None:
        return write.onnx("Abs", [a.real])
    return write.onnx("Sqrt", [squared_norm(write, a)])


def exponential(write: Writer, a: Pair) -> Pair:
    """exp(a) = exp(real)·(cos(imag) + i·sin(imag))."""
    size = write.onnx("Exp", [a.real])
    if a.imag is None:
        return Pair(real=size)
    cos, sin = (write.onnx("Mul", [size, write.onnx(k, [a.imag])]) for k in ("Cos", "Sin"))
    return Pair(real=cos, imag=sin)
