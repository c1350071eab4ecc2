"""Proves that workers stay alive between tasks and never outlive their owner.

Ctrl-C, which goes to all processes of a terminal, does not reach them, and each
computes with one thread.
"""

import multiprocessing
import os
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from resnet50.ordered_map import map_in_order
from resnet50.preprocessing.process_pool import worker_pool
from tests.preprocessing.workloads import square, wait_for_line
from tests.processes import python_process

# Only a failing test waits this long.
PATIENCE_SECONDS = 30


def test_workers_are_processes_that_live_on():
    with worker_pool(2) as pool:
        pids = {pool.submit(os.getpid).result() for _ in range(10)}
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert pids <= {child.pid for child in multiprocessing.active_children()}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_workers_die_when_their_owner_is_killed(tmp_path, state):
    """The workers inherit the owner's output, which ends when the last one is dead."""
    program = """if True:
        import os, sys
        from resnet50.preprocessing.process_pool import worker_pool
        from tests.preprocessing.workloads import wait_for_line
        with worker_pool(2) as pool:
            workers = {pool.submit(os.getpid).result() for _ in range(2)}
            if sys.argv[1] == "busy":
                for _ in range(2):
                    pool.submit(wait_for_line, sys.argv[2])
            print("ready")
            sys.stdin.read()
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with python_process(program, state, pipe) as owner:
        assert owner.stdout.readline() == "ready\n"
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        has_ended, _, _ = select.select([owner.stdout], [], [], PATIENCE_SECONDS)
        assert has_ended
        assert owner.stdout.read() == ""


def test_one_thread_each_and_the_owners_environment_restored(monkeypatch):
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    monkeypatch.setenv(names[0], "7")
    monkeypatch.delenv(names[1], raising=False)
    with worker_pool(1) as pool:
        assert [pool.submit(os.getenv, name).result() for name in names] == ["1"] * 3
    assert os.environ[names[0]] == "7"
    assert names[1] not in os.environ


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_workers_survive_the_signals_of_the_terminal(number):
    """From their start on."""
    with worker_pool(2) as pool:
        futures = [pool.submit(square, number) for number in range(4)]
        # The workers are loading their modules now.
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)
        assert [future.result() for future in futures] == [0, 1, 4, 9]
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)
        assert pool.submit(square, 5).result() == 25


def test_owner_still_gets_its_ctrl_c():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with worker_pool(1) as pool:
        pool.submit(square, 1).result()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(PATIENCE_SECONDS)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked


def test_a_terminated_worker_breaks_the_pool(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with worker_pool(1) as pool:
        worker = pool.submit(os.getpid).result()
        future = pool.submit(wait_for_line, str(pipe))
        os.kill(worker, signal.SIGTERM)
        with pytest.raises(BrokenProcessPool):
            future.result(PATIENCE_SECONDS)


def test_end_of_the_block_drops_what_has_not_started(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with worker_pool(1) as pool:
        first = pool.submit(wait_for_line, str(pipe))
        waiting = [pool.submit(square, number) for number in range(50)]
        # The last task ends by being dropped; that lets the first one continue.
        waiting[-1].add_done_callback(
            lambda last: last.cancelled() and pipe.write_text("continue\n")
        )
        rescue = threading.Timer(PATIENCE_SECONDS, pipe.write_text, ["continue\n"])
        rescue.start()
    rescue.cancel()
    assert first.result() != os.getpid()
    assert waiting[-1].cancelled()


def test_map_in_order_keeps_the_order_and_a_bound():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(3) as pool:
        results = map_in_order(pool, square, items(), num_ahead=4)
        for number, result in enumerate(results):
            assert result == number**2
            assert len(taken) <= number + 4
    assert len(taken) == 20


def test_map_in_order_of_fewer_items_than_it_may_hold():
    with ThreadPoolExecutor(1) as pool:
        assert list(map_in_order(pool, square, [1, 2], num_ahead=100)) == [1, 4]
        assert list(map_in_order(pool, square, [], num_ahead=100)) == []
