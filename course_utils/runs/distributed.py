"""Notebook 09: one training run in several processes, on torch.distributed.

`torchrun` starts the processes. Each builds the same model and keeps its share of it, or of the
rows: "ddp" shares the rows, "fsdp" the rows and the weights, "tensor" every matrix, "pipeline" the
blocks. The course's own model, loss and optimiser run in each process; where a number is needed
from all, what is here stands in for a part of `training`, `loop` or `checkpoints` until the run is
over.
"""

import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import PipelineScheduleSingle
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import (
    DTensor,
    Placement,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from course_utils import decoder, training
from course_utils.runs import checkpoints, loop, typed
from course_utils.runs.processes import is_first

MODES = ("ddp", "fsdp", "tensor", "pipeline")
EXAMPLE = "--standalone --nproc_per_node=2 -m course_utils train --parallel ddp".split()


# --- The processes -------------------------------------------------------------------------------


def check(model: decoder.GPT, mode: str, n_rows: int) -> None:
    """See that the processes can share this model, and batches of so many rows, in this way.

    Raises ValueError where they cannot, or where this process was not started by torchrun.
    """
    if mode not in MODES:
        raise ValueError(f"parallel must be one of {', '.join(MODES)}, got {mode!r}")
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "parallel: start several processes with torchrun, for example "
            + typed.command(*EXAMPLE, module="torch.distributed.run")
        )
    n_processes, n_blocks = int(os.environ["WORLD_SIZE"]), len(model.blocks)
    number, things = n_rows, "rows of a batch"
    if mode == "tensor":
        number, things = model.blocks[0].attention.n_heads, "heads"  # type: ignore[union-attr, assignment]
    if number % n_processes:
        raise ValueError(f"parallel: {n_processes} processes cannot share {number} {things} evenly")
    if mode == "pipeline" and n_blocks < n_processes:
        raise ValueError(f"parallel: {n_processes} processes cannot share {n_blocks} blocks")
    if mode == "pipeline" and _is_tied(model):
        raise ValueError(
            "parallel: in a pipeline, the last process has the head and the first the embedding;"
            " they cannot have the same weights. Take a preset that is not tied"
        )


def _is_tied(model: decoder.GPT) -> bool:
    return any(each is model.head.weight for each in model.embed.parameters())


def own_device(name: str) -> str:
    """The device of this process: each has a GPU to itself. All of them share the processor."""
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda for several processes, got {name!r}")
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Join the processes that torchrun has started. Inside, only the first of them prints.

    A process that fails leaves at once: torchrun then ends the others, or starts all again.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    store, rank, n_processes = _meeting_place()
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=n_processes)
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    with nowhere, redirect_stdout(sys.stdout if is_first() else nowhere):
        yield
    dist.barrier()  # who leaves early would break the others' last exchange
    dist.destroy_process_group()


def _meeting_place() -> tuple[dist.Store, int, int]:
    """Where the processes find each other, the number of this one, and how many there are.

    When torchrun starts them again, old addresses are still there, so every life has a name of its
    own. Machines count their restarts apart; what to do for several of them is in docs/cluster.md.
    """
    store, rank, n_processes = next(rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        store = dist.PrefixStore(f"life {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    return store, rank, n_processes


# --- How a model is shared -----------------------------------------------------------------------


def spread(model: decoder.GPT, mode: str, device: str) -> nn.Module:
    """This process's share of a model that `check` has found fit to be shared."""
    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    if mode == "ddp":
        return DistributedDataParallel(model)
    if mode == "fsdp":
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)  # `evaluate` has no backward
        return model
    return _split_matrices(model, mesh) if mode == "tensor" else Stage(model, device)


def own(model: nn.Module) -> nn.Module:
    """What `spread` gave, with the names that the weights have in the whole model."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _split_matrices(model: decoder.GPT, mesh: DeviceMesh) -> nn.Module:
    """Some heads and some hidden features in each process (Shoeybi et al. 2019, §3)."""
    plan = {
        "attention.w_q": ColwiseParallel(),
        "attention.w_k": ColwiseParallel(),
        "attention.w_v": ColwiseParallel(),
        "attention.w_o": RowwiseParallel(),
        "feed_forward": _SplitFeedForward(),
    }
    for block in model.blocks:
        parallelize_module(block, mesh, plan)
        block.attention.n_heads //= mesh.size()  # type: ignore[union-attr, operator]
    return model


class _SplitFeedForward(ParallelStyle):
    """`up` by rows, `down` by columns: only the sums of `down` have to be exchanged.

    The net as a whole, because it hands its weights to `encoder.feed_forward` and calls no layer.
    """

    placements: ClassVar[dict[str, dict[str, Placement]]] = {
        "up": {"weight": Shard(0), "bias": Shard(0)},
        "down": {"weight": Shard(1), "bias": Replicate()},
    }

    def _apply(self, module: nn.Module, mesh: DeviceMesh) -> nn.Module:
        whole = self._whole_input, self._whole_output
        return distribute_module(module, mesh, self._split, *whole)  # type: ignore[arg-type]

    @classmethod
    def _split(cls, name: str, layer: nn.Module, mesh: DeviceMesh) -> None:
        for key, placement in cls.placements.get(name, {}).items():
            split = distribute_tensor(getattr(layer, key).data, mesh, [placement])
            setattr(layer, key, nn.Parameter(split))

    @staticmethod
    def _whole_input(module: nn.Module, inputs: tuple, mesh: DeviceMesh) -> tuple:
        return tuple(DTensor.from_local(each, mesh, [Replicate()]) for each in inputs)

    @staticmethod
    def _whole_output(module: nn.Module, output: DTensor, mesh: DeviceMesh) -> Tensor:
        return output.redistribute(placements=[Replicate()]).to_local()


class Stage(nn.Module):
    """Some neighbouring blocks of a GPT. The first stage embeds, the last one has the head."""

    def __init__(self, model: decoder.GPT, device: str):
        super().__init__()
        number, n_stages, n_blocks = dist.get_rank(), dist.get_world_size(), len(model.blocks)
        self.is_first, self.is_last = number == 0, number == n_stages - 1
        mine = range(number * n_blocks // n_stages, (number + 1) * n_blocks // n_stages)
        self.embed = model.embed if self.is_first else nn.Identity()
        self.blocks = nn.ModuleDict({str(i): model.blocks[i] for i in mine})
        self.norm = model.norm if self.is_last else nn.Identity()
        self.head = model.head if self.is_last else nn.Identity()
        self.device = torch.device(device)
        self.schedules: dict[tuple, PipelineScheduleSingle] = {}

    def forward(self, x: Tensor) -> Tensor:
        """From token ids in the first stage, else from what the stage before gave."""
        x = self.embed(x)
        mask = decoder.causal_mask(x.shape[1]).to(x.device)
        for block in self.blocks.values():
            x = block(x, mask)
        return self.head(self.norm(x))

    def run(self, batch: training.Batch, n_parts: int, loss_fn: Callable, backward: bool) -> float:
        """The mean loss of a batch, which goes through all stages in parts, one behind the other.

        With `backward` the gradients are those of that mean.
        """
        inputs, targets = batch
        schedule = self._schedule((*inputs.shape, n_parts, backward), n_parts)
        losses: list[Tensor] = []
        read = (inputs,) if self.is_first else ()
        known: dict[str, Any] = {"target": targets, "losses": losses} if self.is_last else {}
        go = schedule.step if backward else schedule.eval
        about = {"loss_fn": loss_fn, "n_all": training.n_counted(targets)}
        go(*read, **known, loss_kwargs=about, return_outputs=False)
        return _sum(sum(loss.item() for loss in losses))

    def _schedule(self, key: tuple, n_parts: int) -> PipelineScheduleSingle:
        """What the stages exchange depends on shapes: it is settled once for each of them."""
        if key not in self.schedules:
            stage = PipelineStage(self, dist.get_rank(), dist.get_world_size(), self.device)
            kind = Schedule1F1B if n_parts > 1 else ScheduleGPipe
            self.schedules[key] = kind(stage, n_parts, _part_of_mean, scale_grads=False)
        return self.schedules[key]


def share(batches: Sequence[training.Batch], mode: str) -> list[training.Batch]:
    """This process's rows, where rows are shared; all of them otherwise."""
    if mode not in ("ddp", "fsdp"):
        return list(batches)
    rank, n_processes = dist.get_rank(), dist.get_world_size()
    return [(inputs[rank::n_processes], targets[rank::n_processes]) for inputs, targets in batches]


# --- What needs a number from all processes ------------------------------------------------------


@contextmanager
def together(mode: str) -> Iterator[None]:
    """Inside the `with` block, losses, gradients' lengths and checkpoints are of the whole."""
    standing_in = _stand_ins(mode)
    own_parts = {(module, name): getattr(module, name) for module, name in standing_in}
    try:
        for (module, name), part in standing_in.items():
            setattr(module, name, part)
        yield
    finally:
        for (module, name), part in own_parts.items():
            setattr(module, name, part)


def _stand_ins(mode: str) -> dict[tuple[ModuleType, str], Callable]:
    found: dict[tuple[ModuleType, str], Callable] = {
        (checkpoints, "save"): save,
        (checkpoints, "load"): load,
        (checkpoints, "Log"): _log_of_the_first(checkpoints.Log),
    }
    if mode in ("ddp", "fsdp"):
        found[training, "accumulate"] = _accumulate
    if mode == "pipeline":
        found[training, "accumulate"] = _run_stages
        found[training, "evaluate"] = _evaluate_stages
    if mode != "ddp":  # where every process has all gradients, the parts themselves will do
        found[training, "clip_gradients"] = _clip_gradients(mode)
        found[loop, "is_finite"] = _is_finite(mode)
        found[loop, "first_not_finite"] = _first_gradient_not_finite
    return found


def _part_of_mean(logits: Tensor, targets: Tensor, loss_fn: Callable, n_all: int) -> Tensor:
    """What these targets add to the mean over `n_all`: nothing, where none of them counts."""
    n_own = training.n_counted(targets)
    return loss_fn(logits, targets) * (n_own / n_all) if n_own else logits.sum() * 0


def _accumulate(
    model: nn.Module, micro_batches: Sequence[training.Batch], loss_fn: Callable
) -> float:
    """The mean over the targets of all processes, each of which has some of the rows.

    DDP and FSDP take the mean of the processes' gradients, however many targets each has counted.
    DDP exchanges them once a step; FSDP has no room for all of them and does it each time.
    """
    n_all = int(_sum(sum(training.n_counted(targets) for _, targets in micro_batches)))
    total = 0.0
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        more_to_come = number < len(micro_batches)
        is_ddp = isinstance(model, DistributedDataParallel)
        with model.no_sync() if is_ddp and more_to_come else nullcontext():  # type: ignore[operator]
            part = _part_of_mean(model(inputs), targets, loss_fn, n_all)
            (part * dist.get_world_size()).backward()
        total += part.item()
    return _sum(total)


def _run_stages(model: Stage, micro_batches: Sequence[training.Batch], loss_fn: Callable) -> float:
    """The micro-batches as one batch, which is cut into enough parts to keep every stage busy."""
    inputs, targets = (torch.cat(each) for each in zip(*micro_batches, strict=True))
    n_parts = len(micro_batches) * dist.get_world_size()
    return model.run((inputs, targets), n_parts, loss_fn, backward=True)


@torch.no_grad()
def _evaluate_stages(model: Stage, batches: Iterable[training.Batch]) -> float:
    """Batches of any number of rows, each in one part, so that only one stage works at a time."""
    was_training = model.training
    model.eval()
    total, n_targets = 0.0, 0
    for inputs, targets in batches:
        loss = model.run((inputs, targets), 1, training.cross_entropy, backward=False)
        total += loss * training.n_counted(targets)
        n_targets += training.n_counted(targets)
    model.train(was_training)
    return total / n_targets


def _length(gradients: Iterable[Tensor], mode: str) -> float:
    """Of all gradients together, whether a process has a piece of one, some of them, or all."""
    pieces: list[Tensor] = []
    whole: list[Tensor] = []
    for gradient in gradients:
        kind = pieces if mode == "pipeline" or _is_piece(gradient) else whole
        kind.append((_local(gradient) ** 2).sum())
    return math.sqrt(_sum(float(sum(pieces))) + float(sum(whole)))


def _is_piece(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor) and any(each.is_shard() for each in tensor.placements)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _clip_gradients(mode: str) -> Callable:
    def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
        gradients = [each.grad for each in parameters if each.grad is not None]
        norm = _length(gradients, mode)
        if norm > max_norm:
            for gradient in gradients:
                gradient.mul_(max_norm / norm)
        return norm

    return clip_gradients


def _is_finite(mode: str) -> Callable:
    """All processes stop, or none does."""
    return lambda gradients: math.isfinite(_length(gradients, mode))


def _first_gradient_not_finite(model: nn.Module, _: object) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not _local(parameter.grad).isfinite().all():
            return f"the gradient of {name} is not finite"
    return "a gradient in another process is not finite"


def _log_of_the_first(log: type[checkpoints.Log]) -> Callable:
    return lambda folder, first: log(folder if is_first() else None, first)


def _sum(number: float) -> float:
    """The sum of the processes' numbers."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(float(number), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item()


# --- Checkpoints of which every process writes its share -----------------------------------------


def save(folder: Path | str, step: int, model: nn.Module, optimiser: Optimizer) -> None:
    """As `checkpoints.save`, but every process writes what it has, to a folder of shards.

    The folder gets its name when all of it is complete.
    """
    finished = Path(folder, f"shards_{step:08d}")
    unfinished = finished.with_suffix(".unfinished")
    if is_first():
        for each in (unfinished, finished):
            shutil.rmtree(each, ignore_errors=True)
    dist.barrier()
    with _named(unfinished):
        dcp.save(_weights(model) | _state(model, optimiser), checkpoint_id=unfinished)
    if is_first():
        unfinished.rename(finished)
        for other in [*Path(folder).glob("shards_*"), *Path(folder).glob("step_*")]:
            if other != finished:
                _remove(other) if other.is_dir() else other.unlink()
    dist.barrier()


def load(folder: Path | str, model: nn.Module, optimiser: Optimizer) -> int:
    """As `checkpoints.load`, from shards that any number of processes has written, in any mode."""
    path = checkpoints.newest(folder)
    if path is None:
        return 0
    parameters = dict(own(model).named_parameters())
    wanted = _weights(model) | _room_for_state(path, parameters)
    _read(path, wanted)
    for key, value in wanted.items():
        if key.startswith("state/"):
            _, name, entry = key.split("/")
            optimiser.state[parameters[name]][entry] = value
    return checkpoints.number(path)


def load_model(path: Path, model: nn.Module) -> None:
    """As `checkpoints.load_model`, from a folder of shards."""
    _read(path, _weights(model))


def take_over(folder: Path | str, model: nn.Module, optimiser: Optimizer) -> None:
    """Give the newest checkpoint the form in which this run goes on.

    That is a folder of shards where there are several processes, which all have to call this, and
    a file of `checkpoints` where there is one. Model and optimiser are those of a whole run.
    """
    path = checkpoints.newest(folder)
    if path is None or path.is_dir() == dist.is_initialized():
        return
    if path.is_file():
        save(folder, checkpoints.load(folder, model, optimiser), model, optimiser)
        return
    checkpoints.save(folder, load(folder, model, optimiser), model, optimiser)
    for shards in path.parent.glob("shards_*"):
        _remove(shards)


def _remove(shards: Path) -> None:
    """Take its name first: who reads it finds all of it, or nothing."""
    doomed = shards.with_suffix(".unfinished")
    if doomed != shards:
        shutil.rmtree(doomed, ignore_errors=True)
        shards.rename(doomed)
    shutil.rmtree(doomed)


def _read(path: Path, wanted: dict[str, Any]) -> None:
    """Fill the tensors, and replace everything else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # so it is: one process
        with _named(path):
            dcp.load(wanted, checkpoint_id=path, no_dist=not dist.is_initialized())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong with a checkpoint is an error of that path."""
    try:
        yield
    except CheckpointException as error:
        raise OSError(f"{path} cannot be written or read: {error}") from error


def _weights(model: nn.Module) -> dict[str, Any]:
    return {f"model/{name}": value for name, value in own(model).state_dict().items()}


def _state(model: nn.Module, optimiser: Optimizer) -> dict[str, Any]:
    """What the optimiser remembers, under the names of the weights that it is about."""
    return {
        f"state/{name}/{entry}": value
        for name, parameter in own(model).named_parameters()
        for entry, value in optimiser.state.get(parameter, {}).items()
    }


def _room_for_state(path: Path, parameters: dict[str, nn.Parameter]) -> dict[str, Any]:
    """For the state in a checkpoint that is about these parameters. A tensor has their shape."""
    room: dict[str, Any] = {}
    for key, kept in dcp.FileSystemReader(path).read_metadata().state_dict_metadata.items():
        kind, name, *_ = key.split("/")
        if kind == "state" and name in parameters:
            is_tensor = isinstance(kept, TensorStorageMetadata)
            room[key] = torch.zeros_like(parameters[name]) if is_tensor else None
    return room
