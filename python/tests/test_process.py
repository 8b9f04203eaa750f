"""What happens around a call: Ctrl-C, forks, threads, h5py, the program beside it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import sccrossrec as scx
from conftest import QUICK, SMALL


def script(text, *args, timeout=240):
    done = subprocess.run([sys.executable, "-c", text, *map(str, args)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["sccrossrec", "h5py"])
def test_beside_h5py(first, data):
    text = """
import sys
first, path = sys.argv[1:]
__import__(first)
import sccrossrec as scx, h5py, threading, tempfile, os
wrong = []
folder = tempfile.mkdtemp()
def theirs(i):
    for n in range(5):
        with h5py.File(f"{folder}/{i}-{n}.h5", "w") as f: f["x"] = list(range(1000))
        with h5py.File(f"{folder}/{i}-{n}.h5") as f:
            if f["x"][:].sum() != 499500: wrong.append(n)
def ours(i):
    for n in range(2):
        rna, atac = scx.simulate(out=f"{folder}/s{i}-{n}", cells=60, genes=12, peaks=40, chromosomes=2, cell_types=2, progress=False)
        if rna.shape != (60, 12): wrong.append(n)
threads = [threading.Thread(target=t, args=(i,)) for i, t in enumerate((theirs, ours, theirs, ours))]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(scx.Data(path)), wrong)
"""
    assert script(text, first, data.path).split() == [str(len(data)), "[]"]


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_ctrl_c_saves_and_goes_on(data, tmp_path):
    run = tmp_path / "run"
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="resume") as e:
        scx.train(data, out=run, device="cpu", progress=False, **{**QUICK, "epochs": 100_000})
    stopped = time.monotonic()
    timer.join()
    assert str(run) in str(e.value) and time.monotonic() - stopped < 5
    done = len(scx.Model(run).log)
    more = scx.train(out=run, resume=True, epochs=done + 1, device="cpu", progress=False)
    assert more.outcome["epochs"] == done + 1


def test_an_exception_of_a_callback_stops_the_work(data, tmp_path):
    from sccrossrec import _native

    def progress(stage, done, of):
        raise ZeroDivisionError("from the callback")

    line = ["train", f"--data={data.path}", f"--out={tmp_path / 'run'}", "--epochs=100000", "--device=cpu", "--tower-epochs=0"]
    with pytest.raises(ZeroDivisionError, match="from the callback"):
        _native.call(line, None, progress)


def test_other_threads_go_on(data):
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.005):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    scx.links(data, progress=False)
    done.set()
    thread.join()
    assert len(ticks) > 3


FORK = """
import os, sys, warnings, signal
warnings.simplefilter("ignore")
import sccrossrec as scx
data = scx.Data(sys.argv[1])
scx.check(data, progress=False)
child = os.fork()
if child == 0:
    signal.alarm(20)
    code = 0
    try:
        assert data.rows([0, 1], "rna").shape[0] == 2
        for batch in data.batches(): pass
        try:
            scx.check(data, progress=False)
            code = 3
        except scx.UsageError as e:
            code = 0 if "spawn" in str(e) else 4
    except BaseException as e:
        print(repr(e), flush=True)
        code = 5
    os._exit(code)
print(os.waitpid(child, 0)[1])
"""


def test_a_fork_reads_cells_and_refuses_work(data):
    assert script(FORK, data.path).strip() == "0"


def test_same_bytes_as_the_program(data, tmp_path):
    """The native binary where SCCROSSREC_BINARY names one, else the program of the wheel."""
    program = os.environ.get("SCCROSSREC_BINARY") or shutil.which("sccrossrec", path=os.path.dirname(sys.executable))
    if program is None:
        pytest.skip("no program: SCCROSSREC_BINARY names one")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in QUICK.items()]
    line = [program, "train", f"--data={data.path}", f"--out={tmp_path / 'a'}", "--device=cpu", *flags]
    subprocess.run(line, check=True, capture_output=True)
    scx.train(data, out=tmp_path / "b", device="cpu", progress=False, **QUICK)
    files = ["best.safetensors", "last.safetensors", "towers.safetensors", "state.safetensors"]
    for name in files:
        assert (tmp_path / "a/checkpoints" / name).read_bytes() == (tmp_path / "b/checkpoints" / name).read_bytes(), name


def test_the_program():
    out = subprocess.run([sys.executable, "-m", "sccrossrec", "--version"], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout.split() == ["sccrossrec", scx.__version__]
    out = subprocess.run([sys.executable, "-m", "sccrossrec", "train"], capture_output=True, text=True)
    assert out.returncode == 2 and out.stderr.startswith("error: ")


def test_import_is_quick():
    text = "import time, sys; t = time.perf_counter(); import sccrossrec; print(time.perf_counter() - t, 'pandas' in sys.modules)"
    seconds, pandas = script(text).split()
    assert pandas == "False" and float(seconds) < 2


def test_simulate_is_the_same_twice(simulated):
    again = scx.simulate(progress=False, **SMALL)
    assert (again[0].X != simulated[0].X).nnz == 0
