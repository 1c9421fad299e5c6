"""What surrounds a capture on CUDA, against a torch.cuda that keeps books: streams, devices, errors, copies, time."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from test_training import assembled
from torch.utils._python_dispatch import TorchDispatchMode

from ganzoo.data import batches
from ganzoo.errors import Diverged, PluginError, UsageError
from ganzoo.machine.fingerprint import environment
from ganzoo.machine.memory import out_of_memory
from ganzoo.machine.settings import resolve_precision, resolve_step_mode
from ganzoo.training.cuda_graph import WARMUP_STEPS, CudaCapture, GraphedStep
from ganzoo.training.loop import due_calls, train


class FakeCuda:
    """The part of torch.cuda that a capture uses, with a current device and stream for each device."""

    def __init__(self, end_fails=False):
        self.end_fails = end_fails
        self.current, self.streams, self.captures = 0, {0: "main 0", 1: "main 1"}, []

    @contextlib.contextmanager
    def device(self, device):
        before, self.current = self.current, torch.device(device).index or 0
        yield
        self.current = before

    @contextlib.contextmanager
    def stream(self, stream):
        before = self.current_stream()
        self.set_stream(stream)
        yield
        self.set_stream(before)

    def graph(self, graph, pool, stream, capture_error_mode):
        self.captures.append((self.current, pool, stream, capture_error_mode))
        return FakeCapturing(self, stream)

    def graph_pool_handle(self):
        return f"pool on {self.current}"

    def Stream(self):  # noqa: N802
        return SimpleNamespace(device=self.current, wait_stream=lambda other: None)

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(replay=f"replay on {self.current}")

    def current_stream(self):
        stream = self.streams[self.current]
        return SimpleNamespace(name=stream, wait_stream=lambda other: None) if isinstance(stream, str) else stream

    def set_stream(self, stream):
        self.streams[self.current] = getattr(stream, "name", stream)


class FakeCapturing:
    """As torch's: where the end of the capture fails, it raises, and its stream stays the current one."""

    def __init__(self, cuda, stream):
        self.cuda, self.stream = cuda, stream

    def __enter__(self):
        self.before = self.cuda.current_stream()
        self.cuda.set_stream(self.stream)

    def __exit__(self, *error):
        if self.cuda.end_fails:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.cuda.set_stream(self.before)


@pytest.fixture
def cuda(monkeypatch):
    """`cuda(end_fails=True)`: put a fake in the place of torch.cuda."""

    def install(**facts):
        fake = FakeCuda(**facts)
        for name in ("device", "stream", "graph", "graph_pool_handle", "Stream", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
        monkeypatch.setattr(torch.cuda, "current_stream", fake.current_stream)
        monkeypatch.setattr(torch.cuda, "set_stream", fake.set_stream)
        return fake

    return install


def raising(error):
    def step():
        raise error

    return step


def test_a_capture_is_on_its_own_device_and_stream_whichever_is_current(cuda):
    fake = cuda()
    capture = CudaCapture("cuda:1")
    replay, terms = capture.record(lambda: [{"on": fake.current}])
    assert (replay, terms) == ("replay on 1", [{"on": 1}])
    assert fake.captures == [(1, "pool on 1", capture.stream, "thread_local")]
    assert capture.stream.device == 1
    assert capture.warm_up(lambda: [{"on": fake.current}]) == [{"on": 1}]
    assert (fake.current, fake.streams) == (0, {0: "main 0", 1: "main 1"})


@pytest.mark.parametrize("end_fails", [False, True])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("operation not permitted when stream is capturing"), PluginError),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError),
        (Diverged("the term became NaN"), Diverged),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(3), SystemExit),
    ],
)
def test_a_failed_capture_gives_the_stream_back_and_tells_the_first_reason(error, raised, end_fails, cuda):
    fake = cuda(end_fails=end_fails)
    with pytest.raises(raised) as caught:
        CudaCapture("cuda:0").record(raising(error))
    assert caught.value is error or "not permitted when stream is capturing" in str(caught.value)
    assert fake.streams == {0: "main 0", 1: "main 1"}


class Copies(TorchDispatchMode):
    """Counts the copies into tensors that are there."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._overloadpacket is torch.ops.aten.copy_
        return func(*args, **(kwargs or {}))


class Replayed:
    """Captures nothing: a replay does nothing."""

    def warm_up(self, step):
        return step()

    def record(self, step):
        return (lambda: None), step()


@pytest.mark.parametrize(("models", "tensors"), [("mlp", 2), ("cdcgan", 3), ("infogan", 2)])
def test_a_replay_copies_each_tensor_once(models, tensors):
    """Images, latents, and labels where there are some: two phases that share fakes share their latent."""
    run = assembled(models)
    graphed = GraphedStep(Replayed())
    for _ in range(WARMUP_STEPS + 1):
        graphed(due_calls(run))
        run.step += 1
    calls = due_calls(run)
    given = {
        id(tensor) for _, batch in calls for tensor in (batch.real, batch.latent, batch.labels) if tensor is not None
    }
    with Copies() as copies:
        graphed(calls)
    assert copies.count == len(given) >= tensors


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("models", "mixtures"), [("mlp", 1), ("dcgan+hinge+r1", 2)])
def test_warm_up_and_capture_are_no_training_time(models, mixtures, monkeypatch):
    settings = ("*.lazy.r1.every=2",) if mixtures == 2 else ()
    run = assembled(models, set=settings)
    run.perform = GraphedStep(Replayed())
    seconds = iter(range(10**6))
    monkeypatch.setattr("ganzoo.training.loop.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    counted = []

    class Counted(type(run.average)):
        def update(self, *args):
            counted.append(result.setup_seconds)
            super().update(*args)

    run.average.__class__ = Counted
    from ganzoo.training.loop import TermLog, TrainResult

    result = TrainResult()
    steps = mixtures * (WARMUP_STEPS + 1) + 4
    train(run, run.batches.batch_size * steps / 1000, log=TermLog(result))
    # The clock is read twice in each step that sets up, a second apart.
    assert result.setup_seconds == mixtures * (WARMUP_STEPS + 1)
    assert counted[-5:] == [result.setup_seconds] * 5


def test_an_eager_run_sets_nothing_up():
    assert train(assembled("mlp"), 0.032).setup_seconds == 0


# --- copies between host and device -----------------------------------------------------------------------------------


class Traced:
    """A tensor that tells how it was sent."""

    def __init__(self, pinned=False):
        self.pinned = pinned

    def pin_memory(self):
        return Traced(pinned=True)

    def to(self, device, non_blocking=False):
        return (device.type, self.pinned, non_blocking)


def test_the_order_of_an_epoch_is_sent_without_waiting():
    assert batches._sent(Traced(), torch.device("cuda:0")) == ("cuda", True, True)
    assert batches._sent(Traced(), torch.device("cpu")) == ("cpu", False, True)


# --- fixed rules ------------------------------------------------------------------------------------------------------


def test_rocm_is_eager_unless_asked(monkeypatch):
    assert resolve_step_mode(None, "cuda:0") == "graph"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert resolve_step_mode(None, "cuda:0") == "eager"
    assert resolve_step_mode("graph", "cuda:0") == "graph"


@pytest.mark.parametrize(("value", "precision"), [("1", "fp32"), ("1", "bf16"), ("0", "tf32")])
def test_a_variable_that_overrides_the_precision_is_refused(value, precision, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    with pytest.raises(UsageError, match=f"--precision {precision}: NVIDIA_TF32_OVERRIDE={value} decides otherwise"):
        resolve_precision(precision, "cuda:0")
    assert resolve_precision("fp32", "cpu") == "fp32"


@pytest.mark.parametrize("name", ["CUDA_LAUNCH_BLOCKING", "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE"])
def test_variables_that_change_a_run_on_cuda_are_recorded(name, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    assert environment({}, "blas")["flags"][name.lower()] is None
    monkeypatch.setenv(name, "1")
    assert environment({}, "blas")["flags"][name.lower()] == "1"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_a_library_that_finds_no_memory_is_out_of_memory(text):
    assert out_of_memory(RuntimeError(text))
    assert not out_of_memory(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"))
