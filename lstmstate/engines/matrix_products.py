"""Matrix products of a cell: weights cut to the fastest sizes, and threads that share the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from lstmstate.engines import blas_threads
from lstmstate.engines.canonical_network import Array, spans

# OpenBLAS has kernels that take matrices as they are for products of up to so many
# multiplications; for others it first copies all weights, which in a step takes longer than the
# product itself if the batch is small.
_SMALL = 1_000_000
_LEAST_ROWS = 4
# From so many multiplications in a step on, a thread of its own computes the input's part.
_WORTH_A_THREAD = 250_000
# Parts of a batch that have a thread each: of so many rows, and of so many multiplications in a
# step, at least. How many there are does not depend on the machine: nor do the results.
_PART_ROWS = 16
_PART_PRODUCT = 1_000_000
_MOST_PARTS = 8

_Result = TypeVar("_Result")


def cut(weights: Array, batch: int) -> Array | None:
    """Return weights `[rows, columns]` as `[pieces, rows, columns]`, each of a small product.

    None if that gains nothing: there are no such kernels, or the weights cannot be cut so.
    """
    rows, columns = weights.shape
    # A batch of one is a vector, never copied.
    if batch == 1 or not weights.size or not blas_threads.has_small_products():
        return None
    most = _SMALL // (columns * batch)
    if rows <= most:
        return weights[None]
    sizes = (size for size in range(most, _LEAST_ROWS - 1, -1) if rows % size == 0)
    size = next(sizes, None)
    return None if size is None else weights.reshape(-1, size, columns)


def shares(batch: int, weights: int, most: int) -> Iterator[list[slice]]:
    """Yield the rows of a batch to run at once, `most` at the most, each part in a thread.

    >>> list(shares(32, 1 << 16, 100)), list(shares(32, 1 << 10, 20))
    ([[slice(0, 16, None), slice(16, 32, None)]], [[slice(0, 20, None)], [slice(20, 32, None)]])

    Args:
        weights: how many recurrent weights there are.
    """
    for start, stop in spans(batch, most):
        rows = stop - start
        count = max(min(rows // _PART_ROWS, rows * weights // _PART_PRODUCT, _MOST_PARTS), 1)
        ends = [start + rows * number // count for number in range(count + 1)]
        yield [slice(*part) for part in pairwise(ends)]


def run_together(jobs: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """Call functions at once, each in a thread, the first in this one; return their results."""
    others = [_Call(job) for job in jobs[1:]]
    for thread in others:
        thread.start()
    try:
        results = [jobs[0]()]
    finally:
        for thread in others:
            thread.join()
    return [*results, *(thread.result() for thread in others)]


class _Call(threading.Thread):
    """A call in a thread, and its result or error."""

    def __init__(self, job: Callable[[], Any]) -> None:
        super().__init__(name="lstmstate-batch", daemon=True)
        self._job = job
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call it."""
        try:
            self._result = self._job()
        except BaseException as error:  # belongs to who waits for it
            self._error = error

    def result(self) -> Any:
        """Return its result, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result


class InputPart:
    """The input's part of the gates, kernel @ x, for some steps at once.

    Args:
        kernel: `[G·H, I]`, or `[G·H, I + 1]`: the last column is added to every product.
        width: I.
        steps: how many at once.
    """

    def __init__(self, kernel: Array, width: int, batch: int, steps: int) -> None:
        self._kernel = kernel
        self._width = width
        self._pieces = cut(kernel, batch)
        self._is_worth_a_thread = kernel.size * batch >= _WORTH_A_THREAD
        columns = kernel.shape[1]
        shape = (columns, steps * batch) if self._pieces is None else (steps, columns, batch)
        self._inputs = np.ones(shape, kernel.dtype)

    def of(self, parts: Sequence[Array], *, alone: bool = True) -> Generator[Array]:
        """Yield the products of parts `[steps, batch, I]` of a sequence, `[steps, G·H, batch]`.

        Args:
            alone: whether there is no thread yet that runs another part of the batch.
        """
        if len(parts) == 1 or not (alone and self._is_worth_a_thread):
            yield from map(self._product, parts)
            return
        yield from self._compute_ahead(parts)

    def _compute_ahead(self, parts: Sequence[Array]) -> Iterator[Array]:
        """Yield the products; while one is used a thread computes the next."""
        made: SimpleQueue[Array | BaseException] = SimpleQueue()
        wanted = threading.Semaphore(2)
        is_over = threading.Event()

        def work() -> None:
            for part in parts:
                wanted.acquire()
                if is_over.is_set():
                    return
                try:
                    with np.errstate(all="ignore"):  # a thread begins with NumPy's own settings
                        made.put(self._product(part))
                except BaseException as error:  # belongs to who waits for the product
                    made.put(error)
                    return

        thread = threading.Thread(target=work, name="lstmstate-products", daemon=True)
        thread.start()
        try:
            for _ in parts:
                product = made.get()
                if isinstance(product, BaseException):
                    raise product
                yield product
                wanted.release()
        finally:
            is_over.set()
            wanted.release()
            thread.join()

    def _product(self, x: Array) -> Array:
        steps, batch, _ = x.shape
        width = self._width
        product: Array
        if self._pieces is not None:
            inputs = self._inputs[:steps]
            inputs[:, :width] = x.transpose(0, 2, 1)
            product = np.matmul(self._pieces, inputs[:, None])
            return product.reshape(steps, -1, batch)
        if batch == 1:
            rows = self._inputs.T[:steps]
            rows[:, :width] = x[:, 0]
            product = np.dot(rows, self._kernel.T)
            return product[:, :, None]
        columns = self._inputs[:, : steps * batch]
        columns[:width].reshape(width, steps, batch)[...] = x.transpose(2, 0, 1)
        product = np.dot(self._kernel, columns)
        return product.reshape(-1, steps, batch).transpose(1, 0, 2)
