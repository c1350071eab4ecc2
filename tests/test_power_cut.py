"""Proves that the model of power cuts is right, and runs a short form of the proof.

The long form is ``python -m tests.power_cut``.
"""

import random

import pytest

from tests.power_cut import __main__ as power_cut
from tests.power_cut import recorder
from tests.power_cut.disk import Disk, final_state
from tests.power_cut.invariants import faults, recorded_batches
from tests.power_cut.recorder import Operation, RecorderError, parse
from tests.power_cut.recovery import Machine, result_of
from tests.power_cut.states import enumerate_cuts


def operations(text):
    """Operations from lines such as "write a abcd" and "rename a b"."""
    for line in text.strip().splitlines():
        kind, path, *rest = line.split()
        argument = rest[0] if rest else ""
        if kind == "write":
            yield Operation(kind, path, offset=-1, data=argument.encode())
        else:
            yield Operation(kind, path, target=argument)


def states(text, model="posix"):
    """The different states after some operations; those before "settle" are durable."""
    disk = Disk(model)
    before, _, after = text.rpartition("settle")
    for part in before, after:
        disk.settle()
        for operation in operations(part):
            disk.replay(operation)
    return {frozenset(state.items()) for _, state in disk.states()}


def files(**contents):
    return frozenset(contents.items())


NOTHING = files()


def test_a_file_without_fsync_may_be_absent_whole_empty_half_or_zeros():
    contents = b"abcd", b"", b"ab", b"\0\0\0\0", b"ab\0\0"
    expected = {NOTHING, *(files(a=content) for content in contents)}
    assert states("create a\n write a abcd") == expected


def test_fsync_of_a_file_keeps_its_bytes_but_not_its_name():
    assert states("create a\n write a abcd\n fsync a") == {NOTHING, files(a=b"abcd")}


def test_fsync_of_a_folder_keeps_its_names_but_not_its_own():
    text = "mkdir d\n create d/a\n write d/a x\n fsync d/a\n fsync d"
    whole = frozenset({"d": None, "d/a": b"x"}.items())
    assert states(text) == {NOTHING, whole}
    assert states(f"{text}\n fsync .") == {whole}


def test_bytes_that_overwrite_durable_ones_may_be_the_old_ones():
    found = states("create a\n write a old\n settle\n truncate a\n write a new!")
    contents = b"old", b"new!", b"", b"ne", b"\0\0\0\0", b"ne\0\0"
    assert found == {files(a=content) for content in contents}


def test_a_replaced_file_is_the_old_one_or_the_new_one():
    text = (
        "create a\n write a old\n settle\ncreate t\n write t new\n fsync t\n rename t a"
    )
    assert states(text) == {
        files(a=b"old"),
        files(a=b"old", t=b"new"),
        files(a=b"new"),
    }
    assert states(f"{text}\n fsync .") == {files(a=b"new")}


def test_a_replacement_without_fsync_may_be_torn():
    text = "create a\n write a old\n settle\n create t\n write t new!\n rename t a"
    assert files(a=b"") in states(text)
    assert files(a=b"ne") in states(text)


def test_names_survive_in_any_order_but_with_a_journal_in_theirs():
    text = "create a\n create b\n create c\n settle\n unlink a\n unlink b\n unlink c"
    a, b, c = ({name: b""} for name in "abc")
    in_order = {files(**a, **b, **c), files(**b, **c), files(**c), NOTHING}
    assert states(text, "journal") == in_order
    assert states(text) == in_order | {
        files(**a),  # All but the first.
        files(**b),
        files(**a, **c),  # Only the second.
        files(**a, **b),
    }


def test_with_a_journal_fsync_keeps_all_earlier_names():
    text = "mkdir d\n create d/a\n create b\n write b x\n fsync b"
    whole = frozenset({"d": None, "d/a": b"", "b": b"x"}.items())
    assert states(text, "journal") == {whole}
    assert NOTHING in states(text)


def test_a_rename_across_folders_is_there_or_not():
    text = "mkdir d\n mkdir e\n create d/a\n settle\n rename d/a e/a"
    folders = {"d": None, "e": None}
    before = frozenset({**folders, "d/a": b""}.items())
    after = frozenset({**folders, "e/a": b""}.items())
    assert states(text) == {before, after}
    assert states(f"{text}\n fsync e") == {after}


def test_the_known_order_of_manifest_and_batches_is_not_enough_without_fsync():
    """An old batch beside a new manifest: the preprocessor would believe it."""
    old = "create manifest\n write manifest old\n create batch\n settle\n"
    replaced = (
        "unlink manifest\n unlink batch\n create t\n write t new\n fsync t\n"
        "rename t manifest"
    )
    believed = files(manifest=b"new", batch=b"")
    assert believed in states(old + replaced)
    assert believed not in states(old + replaced, "journal")
    durable = replaced.replace("unlink batch\n", "unlink batch\n fsync .\n")
    assert believed not in states(old + durable)
    swapped = "create t\n write t new\n fsync t\n rename t manifest\n unlink batch"
    assert believed in states(old + swapped, "journal")


def test_equal_states_are_tried_once_with_the_promises_of_the_latest_cut():
    text = "mkdir buffer\n create buffer/a\n fsync buffer\n fsync ."
    lines = [
        Operation("say", "phases", data=b"phase start\n"),
        *operations(text),
        Operation("say", "1", data=b"saved one 0 2\n"),
        *operations("fsync ."),
    ]
    found = enumerate_cuts(lines, "posix")
    cuts = {frozenset(cut.state.items()): cut for cut in found.cuts}
    folder, whole = {"buffer": None}, {"buffer": None, "buffer/a": b""}
    assert set(cuts) == {NOTHING, files(**folder), files(**whole)}
    assert found.num_states > found.num_distinct == 3
    assert dict(cuts[files(**whole)].promises.saved) == {"one": (0, 2)}


def parsed(tmp_path, *lines):
    root = str(tmp_path)
    return list(parse([line.replace("/R", root).encode() for line in lines], tmp_path))


def test_calls_become_operations(tmp_path):
    found = parsed(
        tmp_path,
        '7 mkdir("/R/work/d", 0777) = 0',
        '7 openat(AT_FDCWD</>, "/R/work/d/a", O_WRONLY|O_CREAT|O_TRUNC, 0666)'
        " = 3</R/work/d/a>",
        r'7 write(3</R/work/d/a>, "\1\0a\"\n", 5) = 5',
        '8 openat(AT_FDCWD</>, "/elsewhere", O_WRONLY|O_CREAT, 0666) = 4</elsewhere>',
        "7 lseek(3</R/work/d/a>, 2, SEEK_SET) = 2",
        '7 write(3</R/work/d/a>, "xy", 2 <unfinished ...>',
        '8 write(4</R/logs/1>, "saved one 0 2\\n", 14) = 14',
        "7 <... write resumed>) = 1",
        "7 fsync(3</R/work/d/a>) = 0",
        '7 rename("/R/work/d/a", "/R/work/d/b") = 0',
        '7 rename("/R/work/d/a", "/R/work/d/c") = -1 ENOENT (No such file)',
        '7 unlinkat(5</R/work/d>, "b", 0) = 0',
        '7 unlinkat(5</R/work>, "d", AT_REMOVEDIR) = 0',
        "7 fsync(5</R/work>) = 0",
        "7 +++ exited with 0 +++",
    )
    assert found == [
        Operation("mkdir", "d"),
        Operation("create", "d/a"),
        Operation("truncate", "d/a"),
        Operation("write", "d/a", offset=0, data=b'\1\0a"\n'),
        Operation("say", "1", data=b"saved one 0 2\n"),
        Operation("write", "d/a", offset=2, data=b"x"),
        Operation("fsync", "d/a"),
        Operation("rename", "d/a", "d/b"),
        Operation("unlink", "d/b"),
        Operation("rmdir", "d"),
        Operation("fsync", "."),
    ]
    assert final_state(found[:-4]) == {"d": None, "d/a": b'\1\0x"\n'}


@pytest.mark.parametrize(
    "line",
    [
        "7 mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 3</R/work/a>, 0) = 0x7f",
        '7 link("/R/work/a", "/R/work/b") = 0',
        "7 sync_file_range(3</R/work/a>, 0, 0, 0) = 0",
        '7 rename("/R/work/a", "/R/logs/b") = 0',
        "7 sendfile(3</R/work/a>, 4</elsewhere>, NULL, 9) = 9",
        "7 what is this, strace?",
    ],
)
def test_what_cannot_be_recorded_is_an_error(tmp_path, line):
    with pytest.raises(RecorderError):
        parsed(tmp_path, line)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The operations of one training, and a machine to recover on."""
    folder = tmp_path_factory.mktemp("power-cut")
    if not recorder.is_usable():
        pytest.skip("strace is not installed, or may not trace programs here")
    recorded = power_cut.record_session(folder / "recorded", "short")
    machine = Machine(folder / "machine", folder / "recorded/images", is_served=True)
    yield recorded, machine, folder / "recorded/work"
    machine.close()


def test_the_model_ends_with_what_is_on_the_disk(session):
    recorded, _, work = session
    paths = {str(path.relative_to(work)): path for path in work.rglob("*")}
    assert final_state(recorded) == {
        name: None if path.is_dir() else path.read_bytes()
        for name, path in paths.items()
    }


def wrong(operations, model):
    """What is wrong in the states of a session, by kind."""
    batches = recorded_batches(operations)
    cuts = enumerate_cuts(operations, model).cuts
    assert len(cuts) > 100
    return set().union(*(faults(cut, batches) for cut in cuts))


def early(operations):
    """Those before the second checkpoint; all would take minutes."""
    said = [o.kind == "say" and b"saved one" in o.data for o in operations]
    return operations[: said.index(True, said.index(True) + 1)]


def test_every_state_of_the_session_is_right(session):
    recorded, _, _ = session
    assert wrong(recorded, "journal") == set()
    assert wrong(early(recorded), "posix") == set()


@pytest.mark.parametrize(
    ("pattern", "model", "fault"),
    [
        ("variables", "journal", "run one: a checkpoint is damaged"),
        ("/one$", "posix", "run one: an announced checkpoint is lost"),
        (r"/\.writing-[0-9a-f]+$", "posix", "run one: a checkpoint is damaged"),
        (r"\.npy\.tmp$", "posix", "images: another batch would be believed"),
    ],
)
def test_a_missing_fsync_is_noticed(session, pattern, model, fault):
    worse = power_cut.without_fsync(early(session[0]), pattern)
    assert fault in wrong(worse, model)


def test_the_programs_recover_from_the_states_and_fail_without_fsync(session):
    recorded, machine, work = session
    reference = {"one": result_of(work / "saved_models/one")}
    cuts = enumerate_cuts(recorded, "journal").cuts
    chosen = random.Random(0).sample(cuts, 6)
    assert power_cut.recover_all(chosen, reference, [machine]) == []
    worse = power_cut.without_fsync(recorded, "variables")
    cuts = enumerate_cuts(worse, "journal").cuts
    torn = [cut for cut in cuts if "variables" in cut.survived]
    found = power_cut.recover_all(torn[-2:], reference, [machine])
    assert found and all("is damaged" in error for _, error in found), found
