"""The machine and the libraries around prmkit: devices, threads, versions, and libraries that are optional or talk."""

from __future__ import annotations

import codecs
import os
import random
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO, TextIOWrapper
from pathlib import Path
from threading import Barrier, Lock, RLock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from matplotlib.text import Text
    from torch import nn

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_forked = _told = False
_turns = RLock()
_moving = Lock()
_guests: WeakKeyDictionary[nn.Module, tuple[int, Any]] = WeakKeyDictionary()


def _note_fork() -> None:
    global _forked, _told, _turns, _moving
    _moving = Lock()
    _turns = RLock()  # the thread that held the old one is not in this process
    _forked, _told = _forked or "torch" in sys.modules or "sklearn" in sys.modules, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def safe_after_fork() -> Iterator[None]:
    """Keep OpenMP to one thread in a process that was forked. A decorator, too.

    A fork copies the list of OpenMP's threads, but not the threads, so GNU's library waits for them without end. It
    cannot be asked whether it has started any. A warning says once per process that threads are left out.
    """
    global _told
    if not _forked:
        yield
        return
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = 1 if torch is None else torch.get_num_threads()
    if before > 1 and not _told:
        _told = True
        warnings.warn(
            "this process was forked, so prmkit computes on one thread here: OpenMP's threads do not survive a fork. "
            "To have more, start it by multiprocessing.get_context('spawn') or 'forkserver'. To agree, set "
            "torch.set_num_threads(1) in it.",
            stacklevel=4,
        )
    if torch is not None:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


@contextmanager
def kept_generators(seed: int | None = None) -> Iterator[None]:
    """Seed torch's global generators, and put them, Python's and numpy's back afterwards.

    Layers draw weights and dropout from the global generator, so threads take turns. One thread would otherwise draw
    another one's numbers.
    """
    import torch

    with _turns:
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with torch.random.fork_rng():
                if seed is not None:
                    torch.manual_seed(seed)
                yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def installed_version(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def one_thread() -> AbstractContextManager[object]:
    """Keep OpenMP and BLAS to one thread.

    Their threads wait for each other by spinning. On two cores with a load of 12, two of them took 4 to 30 times as
    long as one, for trees on 12,000 to 150,000 rows as for linear models.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def best_device() -> str:
    """Return ``"cuda"``, ``"mps"`` or ``"cpu"``, the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@lru_cache
def fast_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on a device.

    A CPU is measured, once per process and in a twentieth of a second, since its flags do not tell: some processors
    have the instructions and are slower by them.
    """
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device == "cpu" and matrix_product_seconds("bfloat16") < matrix_product_seconds("float32") / 1.2


def matrix_product_seconds(dtype: str) -> float:
    """Return the time of a product of a batch of tokens with a layer of a small encoder, on one core."""
    import torch

    def measure(_nothing: int) -> float:
        rows, layer = (torch.ones(shape, dtype=getattr(torch, dtype)) for shape in ((256, 384), (384, 1536)))
        best = float("inf")
        for _ in range(8):
            start = time.perf_counter()
            rows @ layer
            best = min(best, time.perf_counter() - start)
        return best

    return next(in_threads(measure, [0]))


@contextmanager
def no_more_threads_than_cores() -> Iterator[None]:
    """Keep torch to as many threads as this process has cores."""
    import joblib
    import torch

    before = torch.get_num_threads()
    cores = joblib.cpu_count()  # knows about affinity and container quotas
    if before <= cores:
        yield
        return
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sharing_threads() -> int:
    """Return the number of threads of ``in_threads``: torch's, but no more than this process has cores."""
    import joblib
    import torch

    return min(torch.get_num_threads(), int(joblib.cpu_count()))


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item], share: bool = True) -> Iterator[_Result]:
    """Yield the result of each item, in order. Python threads of one core each share the work.

    So no thread of OpenMP waits for another, which costs most of the time if a second process is busy. Each result
    is computed on one core, so its last bits do not depend on the number of threads. A few items are computed ahead.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1 or not share:
        yield from map(work, items)
        return
    n_threads = sharing_threads()
    ready = Barrier(n_threads + 1)

    def take_one_core() -> None:
        torch.get_num_threads()  # the first question gives a thread torch's number, so it comes before the answer
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(n_threads)
    try:
        for _ in range(n_threads):
            pool.submit(take_one_core)
        ready.wait()
        torch.set_num_threads(before)  # of all threads that start from now on
        pending: deque[Future[_Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cache_folder() -> Path:
    """Return the folder of the cache: ``$PRMKIT_CACHE_DIR``, else the user's."""
    from_environment = os.environ.get("PRMKIT_CACHE_DIR")
    if from_environment:
        return Path(from_environment).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("prmkit"))


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Switch off transformers' progress bars and its report of missing weights, and afterwards on again.

    The caller checks by itself that no weights are missing.
    """
    import logging as levels

    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity(max(verbosity, levels.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def quiet_mapping() -> Iterator[None]:
    """Switch off the progress bars of datasets, and afterwards on again."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


class UnscoredWarning(UserWarning):
    """A model cannot read some steps, such as those beyond its length. Who scores whole solutions says it once."""


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Show a warning once if several models in here give it. A decorator, too."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for one in {(one.category, str(one.message)): one for one in caught}.values():
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


# What stands for a sign that an output cannot write. All others are written as escapes.
_LOOKALIKES = {"…": "...", "–": "-", "−": "-", "±": "+-", "·": "*", "×": "x", "█": "#", "→": "->", "≥": ">="}
_LOOKALIKES |= dict.fromkeys("▏▎▍▌▋▊▉", "+")
_ERRORS = "prmkit-lookalike"


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        _LOOKALIKES.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in lost
    ), error.end


def as_printed(text: str) -> str:
    r"""Return a text that ``print`` can write here. In ASCII and cp1252 other signs become look-alikes or escapes.

    >>> print(as_printed("0.5 ± 0.1, \ud800"))
    0.5 ± 0.1, \ud800
    """
    codecs.register_error(_ERRORS, _lookalike)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _ERRORS).decode(encoding)


def write_any_text() -> None:
    """Make standard output and standard error write every text, as ``as_printed`` does. For commands."""
    codecs.register_error(_ERRORS, _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def missing_package(package: str, what: str) -> ImportError:
    """Return the error that something needs a package. The advice is the same in a checkout and after a release."""
    return ImportError(f"{what} needs {package}: pip install {package}")


def import_optional(module: str, what: str) -> Any:
    """Import a module of a package that prmkit does not require. If it is not installed, say what needs it."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != package:
            raise  # the package is there, and lacks something itself
        raise missing_package(package, what) from None


def import_pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or say how to install it."""
    return import_optional("matplotlib.pyplot", "a plot")


class ShowsFigure:
    """Base of displays: one that is the last expression of a notebook's cell shows its plot."""

    figure_: Any

    def _repr_png_(self) -> bytes | None:
        figure = getattr(self, "figure_", None)
        if figure is None:  # not drawn yet
            return None
        image = BytesIO()
        # A part of a figure knows the whole one.
        figure.figure.savefig(image, format="png", bbox_inches="tight")
        plt = import_pyplot()
        # At the end of a cell this backend shows every open figure, so this one would be there twice.
        if "inline" in plt.get_backend():
            plt.close(figure.figure)
        return image.getvalue()


def plain_text(text: Text) -> None:
    """Show the dollar signs of a label: steps are full of LaTeX that matplotlib cannot read."""
    text.set_parse_math(False)


@contextmanager
def on_device(module: nn.Module, device: Any) -> Iterator[None]:
    """Keep a module on a device. The last of several threads that use it takes it back to where it was."""
    with _moving:
        users, home = _guests.get(module) or (0, next(module.parameters()).device)
        module.to(device)
        _guests[module] = users + 1, home
    try:
        yield
    finally:
        with _moving:
            users, home = _guests.pop(module)
            if users > 1:
                _guests[module] = users - 1, home
            else:
                module.to(home)
