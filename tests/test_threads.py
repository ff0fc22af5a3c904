"""Threads: how many, whose, and what happens at fork, at exit and beside other libraries."""

import itertools
import os
import sys
import threading
import time

import numpy as np
import pytest

import gradstep as gs
from gradstep import threads
from script import run
from table import IDS, LAYERS, ROWS
from test_rules import same

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
STEP = """
import numpy as np, gradstep as gs
from gradstep import _cpu
_cpu.set_grain(1, 1024)
p, g = np.zeros(200_000), np.ones(200_000)
opt = gs.SGD(p, lr=0.5, momentum=0.5)
def good(p): assert (p == p[0]).all() and p[0] < 0; return p[0]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_can_step(layer):
    code = """
    gs.set_num_threads(3)
    opt.step(g)
    for depth in range(3):  # children of children too
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            assert status == 0, status
            break
        opt.step(g)
    opt.step(g)
    good(p)
    os._exit(0)
    """
    done = run(
        "import os, signal\nsignal.alarm(60)\n" + STEP + code.replace("\n    ", "\n"),
        GRADSTEP_THREADING=layer,
    )
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_is_inside_a_step():
    code = """
import os, signal, threading, time
signal.alarm(60)
inside, go_on = threading.Event(), threading.Event()
def lr(calls):
    inside.set()
    go_on.wait()
    return 0.5
opt = gs.SGD(p, lr=lr)
threading.Thread(target=opt.step, args=(g,)).start()
inside.wait()
pid = os.fork()
go_on.set()
opt.step(g)
good(p)
if not pid:
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
"""
    assert run(STEP + code).returncode == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_multiprocessing_fork_steps_to_the_same_bits(layer):
    code = (
        STEP
        + """
import multiprocessing as mp
gs.set_num_threads(2)
opt.step(g)
def child(queue):
    opt.step(g); queue.put(good(p))
context = mp.get_context("fork")
queue = context.Queue()
worker = context.Process(target=child, args=(queue,)); worker.start()
theirs = queue.get(timeout=60); worker.join(60)
opt.step(g)
assert theirs == good(p)
"""
    )
    run(
        code.replace("import numpy", "import warnings; warnings.simplefilter('ignore')\nimport numpy", 1),
        GRADSTEP_THREADING=layer,
    )


@LINUX
def test_the_environment_is_left_as_it_was():
    run(f"import os\nbefore = dict(os.environ)\n{STEP}\nopt.step(g)\nassert dict(os.environ) == before")


@LINUX
@pytest.mark.parametrize("layer", LAYERS)
def test_omp_num_threads(layer):
    for value, count in [("1", 1), ("3", 3), ("2,4", 2)]:
        code = f"import gradstep as gs; assert gs.get_num_threads() == {count}, gs.get_num_threads()"
        run(code, OMP_NUM_THREADS=value, GRADSTEP_THREADING=layer)


def test_omp_thread_limit():
    code = "import gradstep as gs; gs.set_num_threads(4); assert gs.get_num_threads() == 1"
    run(code, OMP_THREAD_LIMIT="1", GRADSTEP_THREADING="openmp")


def test_from_environment():
    for value, n in [
        (None, None),
        ("", None),
        ("x", None),
        ("0", None),
        ("-2", None),
        ("4", 4),
        ("4,2", 4),
        ("9999999", 1024),
    ]:
        assert threads.from_environment(value) == n


@LINUX
@pytest.mark.parametrize("layer", LAYERS)
def test_affinity(layer):
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import gradstep as gs; assert gs.get_num_threads() == 1"
    run(code, OMP_NUM_THREADS=None, GRADSTEP_THREADING=layer)


@LINUX
def test_affinity_narrowed_after_import():
    code = (
        STEP
        + """
import os
opt.step(g)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert gs.get_num_threads() == 1
opt.step(g)
"""
    )
    run(code, OMP_NUM_THREADS=None)


def test_control_group_limits(tmp_path):
    assert threads.from_control_group(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    below = tmp_path / "sys/fs/cgroup/a/b"
    below.mkdir(parents=True)
    (below / "cpu.max").write_text("max 100000\n")
    assert threads.from_control_group(tmp_path) is None
    (below.parent / "cpu.max").write_text("150000 100000\n")
    assert threads.from_control_group(tmp_path) == 2
    (below / "cpu.max").write_text("50000 100000\n")
    assert threads.from_control_group(tmp_path) == 1


def test_control_group_limits_of_version_1(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/docker/x\n2:memory:/y\n")
    top = tmp_path / "sys/fs/cgroup/cpu"  # inside a container the group is mounted at the top
    top.mkdir(parents=True)
    (top / "cpu.cfs_quota_us").write_text("400000\n")
    (top / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.from_control_group(tmp_path) == 4
    (top / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads.from_control_group(tmp_path) is None


def test_set_num_threads(engine):
    for layer in LAYERS:
        engine(layer=layer)
        for n in (3, 1, 2):
            gs.set_num_threads(n)
            assert gs.get_num_threads() == n


def test_threadpoolctl_limits_the_openmp_layer():
    pytest.importorskip("threadpoolctl")
    code = (
        STEP
        + """
from threadpoolctl import threadpool_limits
gs.set_num_threads(2)
with threadpool_limits(1):
    assert gs.get_num_threads() == 1
    opt.step(g)
assert gs.get_num_threads() == 2
"""
    )
    run(code, GRADSTEP_THREADING="openmp", OMP_NUM_THREADS="2")


@LINUX
def test_little_work_starts_no_thread():
    code = """
import os, numpy as np, gradstep as gs
gs.set_num_threads(4)
before = len(os.listdir("/proc/self/task"))
small = [np.zeros(10) for _ in range(1000)]
gs.Adam(small).step([np.ones(10)] * 1000)
assert len(os.listdir("/proc/self/task")) == before
gs.Adam(np.zeros(10**6)).step(np.ones(10**6))
assert len(os.listdir("/proc/self/task")) == before + 3
"""
    run(code)


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="asks Linux, of processors")
def test_workers_keep_off_the_callers_processor():
    code = """
import os
from pathlib import Path
import numpy as np, gradstep as gs
gs.set_num_threads(3)
others = os.sched_getaffinity(0)
p = np.zeros(10**6)
opt = gs.SGD(p)
def here(): return int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[36])
def step_on(processor):
    for attempt in range(100):  # the scheduler may move the caller
        os.sched_setaffinity(0, {processor})
        os.sched_setaffinity(0, others)
        if here() != processor: continue
        opt.step(np.ones(10**6))
        if here() == processor: break
    return [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task") if int(t) not in before]
before = {int(t) for t in os.listdir("/proc/self/task")}
for processor in (*sorted(others)[:2], *sorted(others)[:2]):
    assert step_on(processor) == [others - {processor}] * 2
gs.set_num_threads(4)
assert step_on(max(others)) == [others - {max(others)}] * 3  # one that is new, too
os.sched_setaffinity(0, {max(others)})
opt.step(np.ones(10**6))  # where there is no other processor it makes do
assert (p == p[0]).all() and p[0] < 0
"""
    run(code)


@LINUX
def test_an_idle_thread_sleeps(engine):
    engine(threads=2)
    opt = gs.SGD(np.zeros(10**6))
    opt.step(np.ones(10**6))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03


@pytest.mark.parametrize("layer", LAYERS)
def test_two_threads_step_two_optimizers_at_once(engine, layer):
    engine(layer=layer, threads=2, part_tiles=1)
    results = {}

    def work(seed):
        g = np.random.default_rng(seed).normal(size=30_000)
        p = np.zeros(30_000)
        opt = gs.Adam(p)
        for _ in range(200):
            opt.step(g)
        results[seed] = p

    workers = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    together = dict(results)
    for seed in together:
        work(seed)
        same(results[seed], together[seed])


def test_two_threads_step_one_optimizer_in_turn(engine):
    engine(threads=2, part_tiles=1)
    p = np.zeros(50_000)
    opt = gs.GradientDescent(p, lr=1.0)
    workers = [threading.Thread(target=lambda: [opt.step(np.ones(50_000)) for _ in range(100)]) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (p == -300).all()
    assert opt.steps == 300


def longest_silence(opt, g):
    """Share of a step's time in which another Python thread could not run at all."""
    inside, ticks = threading.Event(), []

    def tick():
        inside.wait()
        while inside.is_set():
            ticks.append(time.perf_counter())

    other = threading.Thread(target=tick)
    other.start()
    begin = time.perf_counter()
    inside.set()
    opt.step(g)
    end = time.perf_counter()
    inside.clear()
    other.join()
    moments = [begin, *(t for t in ticks if begin < t < end), end]
    return max(b - a for a, b in itertools.pairwise(moments)) / (end - begin)


def test_the_gil_is_released(engine):
    engine(threads=1, part_tiles=32, thread_elements=1 << 16)  # a core is left for the other thread
    n = 3 * 10**7  # many times what the interpreter lets a thread wait, 5 ms
    opt, g = gs.AdamW(np.zeros(n, np.float32)), np.ones(n, np.float32)
    opt.step(g)
    assert min(longest_silence(opt, g) for _ in range(5)) < 0.5


@pytest.mark.parametrize("layer", LAYERS)
def test_a_clean_exit_with_threads_alive(layer):
    code = (
        STEP
        + """
import threading
gs.set_num_threads(3)
opt.step(g)
def forever():
    q = np.zeros(200_000); o = gs.SGD(q)
    while True: o.step(g)
threading.Thread(target=forever, daemon=True).start()
opt.step(g)
"""
    )
    done = run(code, GRADSTEP_THREADING=layer)
    assert done.stderr == ""


@LINUX
def test_threads_that_cannot_be_started_are_done_without():
    code = (
        STEP
        + """
import resource
gs.set_num_threads(64)
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
opt.step(g)
good(p)
"""
    )
    run(code, OPENBLAS_NUM_THREADS="1")


@pytest.mark.parametrize(
    "row", [r for r in ROWS if not r.hypers], ids=[n for r, n in zip(ROWS, IDS, strict=True) if not r.hypers]
)
def test_chunking_changes_no_bits(engine, rng, row):
    sizes = [5, 1000, 70_001, 1024, 3]
    start = [rng.normal(size=n).astype("f4") for n in sizes]
    grads = [rng.normal(size=n).astype("f4") for n in sizes]
    seen = None
    for part_tiles, threads_ in [(1, 3), (2, 2), (7, 3), (1000, 1)]:
        engine(threads=threads_, part_tiles=part_tiles)
        params = [p.copy() for p in start]
        opt = row.make(params)
        for _ in range(3):
            opt.step(grads)
        bits = b"".join(p.tobytes() for p in params)
        assert seen in (None, bits)
        seen = bits


@LINUX
@pytest.mark.parametrize("first", [None, "torch", "sklearn.linear_model"])
def test_no_stall_after_another_librarys_parallel_work(first):
    """The trap is a hundredfold; `bench` holds the exact figure."""
    if first:
        pytest.importorskip(first)
    code = f"""
import warnings; warnings.simplefilter("ignore")
{"import " + first if first else ""}
import statistics, time
import numpy as np, gradstep as gs
A = np.random.default_rng(0).normal(size=(600, 600)).astype("f4")
p, g = np.zeros(300_000, "f4"), np.ones(300_000, "f4")
opt = gs.AdamW(p)
def step(): opt.step(g)
def matmul(): A @ A
def turn(name, before, call, threads):
    gs.set_num_threads(threads)
    time.sleep(0.04)
    for _ in range(3):
        before()
        begin = time.perf_counter(); call(); took = time.perf_counter() - begin
    times.setdefault(name, []).append(took)
threads = gs.get_num_threads()
for attempt in range(4):  # other processes disturb some, a stall would spoil all
    times = {{}}
    for _ in range(25):
        turn("step", step, step, 1)
        turn("step after", matmul, step, threads)
        turn("matmul", matmul, matmul, threads)
        turn("matmul after", step, matmul, threads)
    median = {{name: statistics.median(t) for name, t in times.items()}}
    if median["step after"] < 5 * median["step"] and median["matmul after"] < 2 * median["matmul"]:
        break
else:
    raise AssertionError(median)
"""
    run(code)
