"""States of solutions that are computed once and kept in files: what writes a block, and what reads a folder."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step, flatten, iter_solutions, name_solutions
from prmkit.features.encoding.model_path import folder_digest
from prmkit.features.states.causal_model import CausalModel, layers_of
from prmkit.features.states.log_probs import POSITION_COLUMNS
from prmkit.features.states.solution_states import (
    POOLINGS,
    STATES_FORMAT,
    SolutionStates,
    column_names,
    solution_states,
    warn_of_lost,
)
from prmkit.marking.encoding import fingerprint
from prmkit.marking.scheme import MarkingScheme
from prmkit.utils.environment import UnscoredWarning

if TYPE_CHECKING:
    import pyarrow

_KEY_BYTES = 16
_PARTS = ".parts"
"""Ending of the folder in which an unfinished run keeps its parts."""


def step_keys(solution: Solution) -> list[bytes]:
    """Return a key for each step, which depends on the problem and the steps up to it alone."""
    key, keys = b"", []
    for text in (solution.problem, *solution.steps):
        key = hashlib.blake2b(key + text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        keys.append(key)
    return keys[1:]


@dataclass
class StateExtractor:
    """A language model that writes the states of blocks of solutions. Another process loads the model again.

    ``extract_states`` in the room of scoring runs it.
    """

    params: dict[str, Any]
    scheme: MarkingScheme
    pooling: str
    max_length: int | None
    batch_size: int
    doing: str = field(default="states", init=False)
    _loaded: CausalModel | None = field(default=None, init=False, repr=False)

    @property
    def model(self) -> CausalModel:
        """The language model."""
        if self._loaded is None:
            self._loaded = CausalModel(**self.params)
        return self._loaded

    def identity(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the model, and what the states depend on, which a reader compares."""
        model = self.model
        settings = {
            "format": STATES_FORMAT,
            "fingerprint": model.weights,
            "dtype": model.precision,
            "n_layers": int(model.config.num_hidden_layers),
            "width": model.width,
            "layer": list(model.layers),
            "pooling": self.pooling,
            "log_probs": self.log_probs,
            "scheme": asdict(self.scheme),
            "marking": fingerprint(model.tokenizer, self.scheme),
            "max_length": self.max_length,
            "limit": model.token_limit(self.max_length),
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return str(model.model), {"states": plain}

    @property
    def log_probs(self) -> bool:
        """Whether log-probabilities are computed too."""
        return self.model.log_probs

    def schema(self) -> pyarrow.Schema:
        """Return the columns of a file of states.

        ``states`` holds float16 and ``columns`` float32, both little-endian. ``lengths`` are the tokens of each step
        that was read, ``places`` says for each step of the solution which of them it is, -1 for none.
        """
        import pyarrow

        numbers = pyarrow.list_(pyarrow.int32())
        columns = {"id": pyarrow.string(), "keys": pyarrow.binary(), "lengths": numbers, "places": numbers}
        columns |= {"states": pyarrow.binary(), "columns": pyarrow.binary(), "n_cut": pyarrow.int64()}
        return pyarrow.schema(columns)

    def __call__(self, solutions: Sequence[Solution]) -> pyarrow.Table:
        """Return one row per solution."""
        import pyarrow

        steps = flatten(solutions)
        owners = np.repeat(np.arange(len(solutions)), [one.n_steps for one in solutions])
        indices = np.array([step.index for step in steps], dtype=np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnscoredWarning)  # the file counts such steps
            found = list(
                solution_states(
                    self.model,
                    steps,
                    scheme=self.scheme,
                    pooling=self.pooling,
                    max_length=self.max_length,
                    tokens_per_batch=tokens_per_batch(self.batch_size, self.model.device),
                    cache=None,
                )
            )
        rows: list[dict[str, Any]] = [
            {"id": one.id, "keys": b"".join(step_keys(one)), "lengths": [], "places": [-1] * one.n_steps}
            | {"states": b"", "columns": b"", "n_cut": one.n_steps}
            for one in solutions
        ]
        for one in found:
            whole = {
                "lengths": one.lengths.tolist(),
                "states": one.values.astype("<f2").tobytes(),
                "columns": one.columns.astype("<f4").tobytes(),
            }
            for owner in np.unique(owners[one.rows]).tolist():  # solutions that are the same share a pass
                own = owners[one.rows] == owner
                rows[owner] |= whole
                rows[owner]["n_cut"] -= int(own.sum())
                for index, place in zip(indices[one.rows[own]].tolist(), one.steps[own].tolist(), strict=True):
                    rows[owner]["places"][index] = place
        return pyarrow.Table.from_pylist(rows, schema=self.schema())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}


def tokens_per_batch(batch_size: int, device: str) -> int:
    """Return the tokens of a pass."""
    return batch_size * (8 if device == "cpu" else 256)


def files_state(folder: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether the files of states in a folder have changed."""
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(folder))


def _files(folder: str | Path) -> list[Path]:
    place = Path(folder).expanduser()
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    files = [file for file in files if not any(part.endswith(_PARTS) for part in file.parts)]
    if not files:
        way_out = "make it by prmkit states MODEL IN OUT or prmkit.scoring.extract_states, or pass states=None"
        if any(place.rglob(f"*{_PARTS}")):
            raise FileNotFoundError(
                f"the extraction to {place} is not finished: do the same again, and it goes on where it was"
            )
        what = "holds no file of states" if place.is_dir() else "does not exist"
        raise FileNotFoundError(f"the folder states={str(folder)!r} {what}: {way_out}")
    return files


class StoredStates:
    """The states in a folder, read without the language model. A part of what is stored can be asked for.

    Parameters are those of :class:`~prmkit.PRMFeaturizer`. ValueError says that the folder holds other states.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | Path,
        layer: int | Sequence[int] | None,
        pooling: str,
        log_probs: bool,
        scheme: MarkingScheme,
        dtype: str,
        max_length: int | None,
    ) -> None:
        self.folder, self.log_probs, self._pooling = folder, log_probs, pooling
        self._files = _files(folder)
        self.model, self._stored = _stored(self._files)
        asked = {"model": model, "layer": layer, "pooling": pooling, "log_probs": log_probs, "scheme": scheme}
        self.layers = self._checked({**asked, "dtype": dtype, "max_length": max_length})
        self._read_keys()

    @property
    def width(self) -> int:
        """Length of a state."""
        return int(self._stored["width"])

    @property
    def weights(self) -> str:
        """The fingerprint of the language model."""
        return str(self._stored["fingerprint"])

    @property
    def precision(self) -> str:
        """Name of the precision in which the states were computed."""
        return str(self._stored["dtype"])

    def _checked(self, asked: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the layers that are asked for. Raise ValueError if the folder holds other states."""
        stored = self._stored
        different: dict[str, tuple[Any, Any]] = {}
        here = Path(asked["model"]).expanduser()
        if here.is_dir():
            if (digest := folder_digest(here)) != stored["fingerprint"]:
                raise ValueError(
                    f"the states in {self.folder} were computed with other weights or another tokenizer than those in "
                    f"{here}: found fingerprint {stored['fingerprint']} (of {self.model}), expected {digest}. Extract "
                    "them again, pass model=… with the model that was read, or states=None to compute them here"
                )
        elif str(asked["model"]) != self.model:
            different["model"] = (self.model, str(asked["model"]))
        layers = layers_of(asked["layer"], int(stored["n_layers"]), self.model)
        if not set(layers) <= set(stored["layer"]):
            different["layer"] = (stored["layer"], list(layers))
        if not set(POOLINGS[asked["pooling"]]) <= set(POOLINGS[stored["pooling"]]) or (
            "tokens" in (asked["pooling"], stored["pooling"]) and asked["pooling"] != stored["pooling"]
        ):
            different["pooling"] = (stored["pooling"], asked["pooling"])
        if asked["log_probs"] and not stored["log_probs"]:
            different["log_probs"] = (False, True)
        if asked["dtype"] not in ("auto", stored["dtype"]):
            different["dtype"] = (stored["dtype"], asked["dtype"])
        if asked["max_length"] != stored["max_length"]:
            different["max_length"] = (stored["max_length"], asked["max_length"])
        if (scheme := MarkingScheme(**stored["scheme"])) != asked["scheme"]:
            different["scheme"] = (scheme, asked["scheme"])
        if different:
            said = "; ".join(
                f"{name}: found {found!r}, expected {wanted!r}" for name, (found, wanted) in different.items()
            )
            typed = ", ".join(f"{name}={found!r}" for name, (found, _) in different.items())
            raise ValueError(
                f"{self.folder} holds other states than those asked for ({said}). Pass {typed} to read them, or "
                "extract again with your settings"
            )
        return layers

    def _read_keys(self) -> None:
        """Read the keys of all steps, and where each of them stands."""
        from pyarrow import parquet

        blobs: list[bytes] = []
        self._groups: list[tuple[Path, int]] = []
        groups, rows, steps = [], [], []
        for file in self._files:
            with parquet.ParquetFile(file) as opened:
                for number in range(opened.num_row_groups):
                    column = opened.read_row_group(number, columns=["keys"], use_threads=False)["keys"].to_pylist()
                    n_steps = np.array([len(one) // _KEY_BYTES for one in column], dtype=np.int64)
                    blobs += column
                    groups.append(np.full(n_steps.sum(), len(self._groups)))
                    rows.append(np.repeat(np.arange(len(column)), n_steps))
                    steps += [np.arange(n) for n in n_steps.tolist()]
                    self._groups.append((file, number))
        nothing = [np.empty(0, dtype=np.int64)]
        keys = np.frombuffer(b"".join(blobs), dtype=f"S{_KEY_BYTES}")
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._places = np.column_stack([np.concatenate(nothing + one) for one in (groups, rows, steps)])[order]

    def of(self, steps: Sequence[Step]) -> Iterator[SolutionStates]:
        """Yield the states of some steps. ValueError names the solutions that are missing."""
        found = np.empty((len(steps), 3), dtype=np.int64)
        solutions = list(iter_solutions(steps))
        missing = []
        for i, (solution, rows, indices) in enumerate(solutions):
            keys = np.array(step_keys(solution), dtype=self._keys.dtype)[indices]
            # Of the same step in several rows, the first one is taken.
            at = np.searchsorted(self._keys, keys)
            known = at < len(self._keys)
            known[known] = self._keys[at[known]] == keys[known]
            if not known.all():
                missing.append(i)
            else:
                found[rows] = self._places[at]
        if missing:
            names = name_solutions([one for one, _, _ in solutions], missing, [rows[0] for _, rows, _ in solutions])
            raise ValueError(
                f"{self.folder} lacks the states of {names}{self._unfinished()}. Extract them too, into this folder or "
                "one inside it (prmkit states MODEL IN OUT), or pass states=None to compute them here"
            )
        by_place: dict[tuple[int, int], list[int]] = {}
        for i, (group, row, _) in enumerate(found.tolist()):
            by_place.setdefault((group, row), []).append(i)
        read: list[SolutionStates] = []
        last, table = -1, None
        for group, row in sorted(by_place):
            if group != last:
                last, table = group, self._table(group)
            here = np.array(by_place[group, row], dtype=np.int64)
            one = self._solution(table, row, here, found[here, 2])
            if len(one.rows):
                read.append(one)
        warn_of_lost(steps, read, self._stored["limit"])
        yield from read

    def _table(self, group: int) -> Any:
        from pyarrow import parquet

        file, number = self._groups[group]
        with parquet.ParquetFile(file) as opened:
            return opened.read_row_group(number, use_threads=False)

    def _solution(
        self, table: Any, row: int, rows: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]
    ) -> SolutionStates:
        """Return the states of a row of the file, of what is asked for."""
        stored = self._stored
        lengths = np.array(table["lengths"][row].as_py(), dtype=np.int64)
        places = np.array(table["places"][row].as_py(), dtype=np.int64)[indices]
        values = np.frombuffer(table["states"][row].as_py(), dtype="<f2").astype(np.float16)
        layers = [stored["layer"].index(layer) for layer in self.layers]
        if self._pooling == "tokens":
            values = values.reshape(-1, len(stored["layer"]), self.width)[:, layers]
        else:
            kinds = [POOLINGS[stored["pooling"]].index(kind) for kind in POOLINGS[self._pooling]]
            shape = len(lengths), len(POOLINGS[stored["pooling"]]), len(stored["layer"]), self.width
            values = values.reshape(shape)[:, kinds][:, :, layers].reshape(
                len(lengths), len(kinds) * len(layers) * self.width
            )
        n_columns = len(column_names(self.log_probs)) - len(POSITION_COLUMNS)
        columns = np.frombuffer(table["columns"][row].as_py(), dtype="<f4").astype(np.float32)
        columns = columns.reshape(len(lengths), len(columns) // max(1, len(lengths)))[:, :n_columns]
        is_read = places >= 0
        return SolutionStates(values, lengths, columns, rows[is_read], places[is_read])

    def _unfinished(self) -> str:
        """Return in words what is not there yet."""
        shards = [json.loads(_metadata(file))["run"]["shard"] for file in self._files]
        place = Path(self.folder).expanduser()
        if place.is_dir() and any(place.rglob(f"*{_PARTS}/*.parquet")):
            return ": an extraction to it is not finished"
        n_of = Counter(shard[1] for shard in shards if shard)
        lacking = [f"{n_found} of {n} shards" for n, n_found in n_of.items() if n_found < n]
        return f": it holds {lacking[0]}" if lacking else ""


def _metadata(file: Path) -> bytes:
    import pyarrow
    from pyarrow import parquet

    try:
        found: bytes = (parquet.read_schema(file).metadata or {}).get(b"prmkit", b"{}")
    except pyarrow.ArrowInvalid:
        return b"{}"
    return found


def _stored(files: Sequence[Path]) -> tuple[str, dict[str, Any]]:
    """Return the name of the model and the settings that all files share."""
    first: tuple[str, dict[str, Any]] | None = None
    for file in files:
        about = json.loads(_metadata(file))
        settings = about.get("run", {}).get("states")
        if settings is None:
            raise ValueError(f"{file} is no file of states: expected what prmkit states or extract_states has written")
        if settings["format"] != STATES_FORMAT:
            raise ValueError(
                f"{file} was written by another version of prmkit (format {settings['format']}, expected "
                f"{STATES_FORMAT}): extract the states again"
            )
        if first is None:
            first = about["model"], settings
        if settings != first[1]:
            differing = ", ".join(
                f"{name} ({first[1].get(name)!s:.60} and {value!s:.60})"
                for name, value in settings.items()
                if value != first[1].get(name)
            )
            raise ValueError(
                f"{file} and {files[0]} hold states of different extractions: they differ in {differing}. "
                "Keep them in different folders"
            )
    if first is None:
        raise ValueError("no file of states")
    return first
