"""Read an archive of `torch.save` with NumPy, without torch and without unpickling.

The archive is a ZIP of raw storages and one pickle that describes how they form tensors. A pickle is a
program; here it is interpreted and never run: the functions below implement the few operators that plain
values and tensors need, on Python's own strings, numbers, lists and dictionaries. Nothing is imported,
looked up or called for the pickle, and every other operator or name is an error.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.ptychopinn.zip_members import ZipMembers

__all__ = ["read_torch_archive"]

_LARGEST_PICKLE = 2**22  # bytes; names and shapes of 300 weights take 20 kB
_MOST_AXES = 8
_LARGEST_TENSORS = 2**31  # bytes of all tensors together; a pickle may refer to one storage many times


class _Name(NamedTuple):
    """A global name in the pickle; it is only compared, never looked up."""

    name: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


_ORDERED_DICT = _Name("collections OrderedDict")
_REBUILD_TENSOR = _Name("torch._utils _rebuild_tensor_v2")
_STORAGES = {
    "torch FloatStorage": "f4",
    "torch DoubleStorage": "f8",
    "torch HalfStorage": "f2",
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
    "torch ComplexFloatStorage": "c8",
}
_KNOWN = {_ORDERED_DICT.name, _REBUILD_TENSOR.name, *_STORAGES}
_MARK = _Name("mark")


def read_torch_archive(members: ZipMembers) -> Any:
    """Read plain values and tensors from an archive of `torch.save`.

    Parameters
    ----------
    members : ZipMembers
        The archive, as `torch.save` writes it since torch 1.6.

    Returns
    -------
    object
        None, bool, int, float, str, and lists, tuples and dictionaries of such; tensors are
        arrays.

    Raises
    ------
    ConversionError
        The file is not such an archive, is damaged, or contains more than plain values and tensors.
    """
    programs = [name for name in members.names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(programs) != 1:
        raise ConversionError(
            "not an archive of torch.save", file=members.file, key=members.key,
            found=f"{len(programs)} members data.pkl", expected=1,
        )  # fmt: skip
    prefix = programs[0].removesuffix("data.pkl")
    order = "little"
    if f"{prefix}byteorder" in members.names:
        order = members.read(f"{prefix}byteorder", 16).decode("ascii", "replace")
    if order not in {"little", "big"}:
        raise ConversionError(
            "unknown byte order", file=members.file, key=members.key, found=order, expected="little or big"
        )
    reader = _Reader(members, prefix, "<" if order == "little" else ">")
    return reader.run(members.read(programs[0], _LARGEST_PICKLE))


class _Reader:
    """An interpreter of pickles: stack, memo and the supported operators."""

    def __init__(self, members: ZipMembers, prefix: str, byte_order: Literal["<", ">"]) -> None:
        self._members, self._prefix, self._byte_order = members, prefix, byte_order
        self._file, self._key = members.file, members.key
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, bytes] = {}
        self._left = _LARGEST_TENSORS
        self._actions: dict[str, Callable[[Any], None]] = {
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "MARK": lambda _: self._stack.append(_MARK),
            "NONE": lambda _: self._stack.append(None),
            "NEWTRUE": lambda _: self._stack.append(True),
            "NEWFALSE": lambda _: self._stack.append(False),
            **dict.fromkeys(_PUSHED, self._stack.append),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            **{f"TUPLE{count}": self._tuple_of(count) for count in (1, 2, 3)},
            "TUPLE": lambda _: self._stack.append(tuple(self._above_mark())),
            "APPEND": lambda _: self._append([self._stack.pop()]),
            "APPENDS": lambda _: self._append(self._above_mark()),
            "SETITEM": lambda _: self._set_items(self._last(2)),
            "SETITEMS": lambda _: self._set_items(self._above_mark()),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._remember),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda index: self._stack.append(self._memo[index])),
            "GLOBAL": self._push_name,
            "STACK_GLOBAL": lambda _: self._push_name(" ".join(self._last(2))),
            "BINPERSID": lambda _: self._stack.append(self._storage(self._stack.pop())),
            "REDUCE": lambda _: self._stack.append(self._rebuild(*self._last(2))),
            "BUILD": lambda _: self._discard_attributes(),
            "STOP": lambda _: None,
        }

    def run(self, program: bytes) -> Any:
        """Interpret the pickle and return the value that remains on the stack."""
        try:
            for operator, argument, _ in pickletools.genops(program):
                action = self._actions.get(operator.name)
                if action is None:
                    raise self._refused(operator.name)
                action(argument)
            (value,) = self._stack
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError):
            raise ConversionError(
                "a pickle that is damaged or not from torch.save", file=self._file, key=self._key,
                remedy="fetch the file again",
            ) from None  # fmt: skip
        return value

    def _refused(self, found: str) -> ConversionError:
        return ConversionError(
            "a pickle that contains more than names, numbers and tensors; it was not run", file=self._file, key=self._key,
            found=found, expected="what torch.load(…, weights_only=True) reads", remedy="do not trust this file",
        )  # fmt: skip

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _above_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise IndexError
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _tuple_of(self, count: int) -> Callable[[Any], None]:
        return lambda _: self._stack.append(tuple(self._last(count)))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or not all(isinstance(name, str) for name in values[::2]):
            raise TypeError
        target.update(zip(values[::2], values[1::2], strict=True))

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _push_name(self, name: str) -> None:
        if name not in _KNOWN:
            raise self._refused(name)
        self._stack.append(_Name(name))

    def _discard_attributes(self) -> None:
        """Ignore the attributes of a state dict: `_metadata` with versions of modules, which weights do not depend on."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise TypeError

    def _rebuild(self, function: Any, arguments: Any) -> Any:
        if function == _ORDERED_DICT and arguments == ():
            return {}
        if function == _REBUILD_TENSOR:
            storage, offset, shape, strides, *_ = arguments
            return self._tensor(storage, offset, shape, strides)
        raise self._refused(function.name if isinstance(function, _Name) else "a call")

    def _storage(self, identity: Any) -> _Storage:
        kind, name, key, _, count = identity
        if (
            kind != "storage"
            or not isinstance(name, _Name)
            or not isinstance(key, str)
            or type(count) is not int
            or count < 0
        ):
            raise TypeError
        return _Storage(key, _STORAGES[name.name], count)

    def _read_storage(self, key: str) -> bytes:
        if key not in self._storages:
            self._storages[key] = self._members.read(f"{self._prefix}data/{key}", _LARGEST_TENSORS)
        return self._storages[key]

    def _tensor(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
        """Copy a tensor out of its storage, after checking that it lies inside the storage."""
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError
        if len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise ValueError
        size = math.prod(shape)
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if size > storage.length or (size and last >= storage.length):
            raise ValueError
        dtype = np.dtype(storage.dtype).newbyteorder(self._byte_order)
        if size == 0:
            return np.zeros(shape, dtype.newbyteorder("="))
        self._left -= size * dtype.itemsize
        if self._left < 0:
            raise ConversionError(
                "too large", file=self._file, key=self._key, found="tensors of more bytes", expected=_LARGEST_TENSORS
            )
        data = self._read_storage(storage.key)
        if len(data) != storage.length * dtype.itemsize:
            raise ValueError
        view: NDArray[Any] = np.ndarray(
            shape, dtype, data, offset * dtype.itemsize, tuple(stride * dtype.itemsize for stride in strides)
        )
        return view.astype(dtype.newbyteorder("="))


_PUSHED = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip
