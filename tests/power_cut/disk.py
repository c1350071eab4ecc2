"""A model of a disk: what of some recorded operations survives a power cut.

The names in a folder and the bytes of a file become durable with fsync of the folder or
of the file. Everything else may survive or not:

* a change of names (create, rename, unlink, mkdir, rmdir) is atomic: a rename across
  folders is there or not. Of the changes that are not durable yet, any prefix may
  survive, all but any one, any one alone, and those of one folder without the others'.
* of a file's bytes that are not durable yet, all may survive, none, or the first half,
  with or without zeros for those that do not (as after delayed allocation); or the old
  bytes.

That is POSIX, at its weakest. With a journal of names (ext4, XFS) the changes survive
in order, and fsync of anything makes all earlier changes durable.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.power_cut.recorder import Operation

MODELS = ("posix", "journal")

# Path to content; None for a folder.
State = dict[str, bytes | None]


class Inode:
    """A file or a folder, under whatever name."""

    def __init__(self, *, is_folder: bool):
        self.is_folder = is_folder
        self.data = b""
        self.durable_data = b""

    @property
    def versions(self) -> tuple[bytes, ...]:
        """The bytes that a power cut may leave, first all that were written."""
        return _versions(self.data, self.durable_data)


@functools.cache  # Python computes the hash of each bytes object only once.
def _versions(data: bytes, old: bytes) -> tuple[bytes, ...]:
    if data == old:
        return (data,)
    half, size = data[: len(data) // 2], len(data)
    found = [data, old, b"", half, bytes(size), half.ljust(size, b"\0")]
    return tuple(dict.fromkeys(found))


class Change(NamedTuple):
    """One atomic change of names: what each (folder, name) leads to; None: nothing."""

    operation: Operation
    entries: tuple[tuple[Inode, str, Inode | None], ...]

    def touches(self, folder: Inode) -> bool:
        """Whether the change is one of a folder's names."""
        return any(parent is folder for parent, _, _ in self.entries)


# The names in each folder.
Tree = dict[Inode, dict[str, Inode]]


def _apply(tree: Tree, change: Change) -> None:
    for folder, name, inode in change.entries:
        names = tree.setdefault(folder, {})
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


class Disk:
    """Replays operations; lists the states that a cut after the last one may leave."""

    def __init__(self, model: str = "posix"):
        self._is_journal = model == "journal"
        self._root = Inode(is_folder=True)
        self._now: Tree = {self._root: {}}
        self._durable: Tree = {self._root: {}}
        self._pending: list[Change] = []

    def _find(self, path: str) -> tuple[Inode, str, Inode | None]:
        """The folder of a path, its name there, and what it leads to."""
        *folders, name = path.split("/")
        folder = self._root
        for part in folders:
            folder = self._now[folder][part]
        return folder, name, self._now.get(folder, {}).get(name)

    def _change(
        self, operation: Operation, *entries: tuple[Inode, str, Inode | None]
    ) -> None:
        change = Change(operation, entries)
        _apply(self._now, change)
        self._pending.append(change)

    def replay(self, operation: Operation) -> None:
        """Does what a program did."""
        kind = operation.kind
        if kind == "say":
            return
        folder, name, inode = self._find(operation.path)
        if kind in ("create", "mkdir"):
            if inode is None:
                self._change(
                    operation, (folder, name, Inode(is_folder=kind == "mkdir"))
                )
        elif kind in ("unlink", "rmdir"):
            self._change(operation, (folder, name, None))
        elif kind == "rename":
            to_folder, to_name, _ = self._find(operation.target)
            moved = (folder, name, None), (to_folder, to_name, inode)
            self._change(operation, *moved)
        elif kind == "truncate":
            size = operation.size
            inode.data = inode.data[:size].ljust(size, b"\0")
        elif kind == "write":
            offset = operation.offset if operation.offset >= 0 else len(inode.data)
            before = inode.data[:offset].ljust(offset, b"\0")
            end = offset + len(operation.data)
            inode.data = before + operation.data + inode.data[end:]
        elif kind == "fsync":
            self._fsync(inode or self._root)
        else:
            raise ValueError(kind)

    def read(self, path: str) -> bytes:
        """The bytes that a program would read from a file now."""
        _, _, inode = self._find(path)
        return inode.data

    def _fsync(self, inode: Inode) -> None:
        inode.durable_data = inode.data
        pending, self._pending = self._pending, []
        for change in pending:
            if self._is_journal or change.touches(inode):
                _apply(self._durable, change)
            else:
                self._pending.append(change)

    def settle(self) -> None:
        """Makes everything durable, as kernels do within half a minute."""
        for inode in set(self._inodes(self._now)):
            inode.durable_data = inode.data
        for change in self._pending:
            _apply(self._durable, change)
        self._pending.clear()

    def _inodes(self, tree: Tree) -> Iterator[Inode]:
        return itertools.chain.from_iterable(names.values() for names in tree.values())

    def _surviving(self) -> Iterator[tuple[str, list[Change]]]:
        """The sets of pending changes that may survive, all of them first."""
        pending = self._pending
        for end in range(len(pending), -1, -1):
            yield f"the first {end} of {len(pending)} pending changes", pending[:end]
        if self._is_journal:
            return
        for index, change in enumerate(pending):
            rest = pending[:index] + pending[index + 1 :]
            yield f"all pending changes but {change.operation}", rest
            yield f"no pending change but {change.operation}", [change]
        folders = {folder for change in pending for folder, _, _ in change.entries}
        for folder in folders:
            ours = [change for change in pending if change.touches(folder)]
            others = [change for change in pending if not change.touches(folder)]
            yield "the pending changes of one folder", ours
            yield "the pending changes of all folders but one", others

    def states(self) -> Iterator[tuple[str, State]]:
        """Yields every state, some more than once, each with what has survived."""
        for number, (survived, changes) in enumerate(self._surviving()):
            tree = {folder: dict(names) for folder, names in self._durable.items()}
            for change in changes:
                _apply(tree, change)
            paths = dict(self._walk(tree, self._root, ""))
            for torn, state in _contents(paths, one_by_one=number == 0):
                yield f"{survived}{torn}", state

    def _walk(
        self, tree: Tree, folder: Inode, prefix: str
    ) -> Iterator[tuple[str, Inode]]:
        for name, inode in tree.get(folder, {}).items():
            yield prefix + name, inode
            if inode.is_folder:
                yield from self._walk(tree, inode, f"{prefix}{name}/")


def _contents(
    paths: dict[str, Inode], *, one_by_one: bool
) -> Iterator[tuple[str, State]]:
    """The states of a tree: of files whose bytes are not durable, each version.

    All files have versions of the same kind, or, ``one_by_one``, also each file another
    one than the rest, which are whole.
    """
    versions = {p: i.versions for p, i in paths.items() if not i.is_folder}
    whole: State = {p: None for p, i in paths.items() if i.is_folder}
    whole.update((path, found[0]) for path, found in versions.items())
    yield "", whole
    torn = {path: found for path, found in versions.items() if len(found) > 1}
    for kind in range(1, max(map(len, torn.values()), default=1)):
        others = {p: found[min(kind, len(found) - 1)] for p, found in torn.items()}
        yield f"; torn: {', '.join(torn)}", {**whole, **others}
    if one_by_one and len(torn) > 1:
        for path, found in torn.items():
            for version in found[1:]:
                yield f"; torn: {path}", {**whole, path: version}


def final_state(operations: Iterable[Operation]) -> State:
    """What the operations leave without a power cut."""
    disk = Disk()
    for operation in operations:
        disk.replay(operation)
    _, state = next(disk.states())
    return state
