"""Two ranks on half batches are one rank on whole ones, through refreshes."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from common import close
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from topkast.torch import RigL, TopKAST, sparse_layers, sparsify


def model(method):
    torch.manual_seed(3)
    dense = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 30), nn.Tanh(), nn.Linear(30, 4))
    if method == "rigl":
        return sparsify(dense, 0.8, keep_ends=False, verbose=False)
    return sparsify(dense, 0.8, 0.6, keep_ends=False, reservoir="implicit", verbose=False)


def train(network, bare, method, rank=0, ranks=1):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    if method == "rigl":
        topology = RigL(bare, optimizer, every=4, end=30)
    else:
        topology = TopKAST(bare, optimizer, refresh_every=4, penalty=0.02)
    for step in range(20):
        x = torch.randn(16, 20, generator=torch.Generator().manual_seed(step))
        x = x.chunk(ranks)[rank]
        optimizer.zero_grad()
        # RigL's gradients are of sums over ranks, DDP's of means: the order of magnitudes is the same.
        (network(x).square().mean() + topology.penalty() if method != "rigl" else network(x).square().mean()).backward()
        optimizer.step()
        topology.step()
    return bare


def worker(rank, port, method, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    bare = model(method)
    network = DistributedDataParallel(bare)
    state = train(network, bare, method, rank, 2).state_dict()
    results.put((rank, {key: value.numpy() for key, value in state.items() if isinstance(value, torch.Tensor)}))
    # Ranks that differ are told.
    torch.manual_seed(rank)
    other = sparsify(nn.Linear(20, 50), 0.8, initial="random", verbose=False)
    try:
        RigL(other, end=5)
        results.put((rank, "no error"))
    except RuntimeError as error:
        results.put((rank, str(error)))
    dist.barrier()
    dist.destroy_process_group()


def check(method):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=worker, args=(rank, port, method, results)) for rank in range(2)]
    for process in workers:
        process.start()
    got = [results.get(timeout=120) for _ in range(4)]
    for process in workers:
        process.join(60)
        assert process.exitcode == 0
    states = [state for _, state in got if not isinstance(state, str)]
    errors = [error for _, error in got if isinstance(error, str)]
    assert all("differ between ranks" in error for error in errors) and len(errors) == 2
    one = model(method)
    start = {name: layer.indices.clone() for name, layer in sparse_layers(one).items()}
    train(one, one, method)
    moved = 0
    for name, layer in sparse_layers(one).items():
        moved += not torch.equal(start[name], layer.indices)
        for state in states:
            assert torch.equal(torch.from_numpy(state[f"{name}.indices"]), layer.indices), name
            close(torch.from_numpy(state[f"{name}.values"]), layer.values.detach(), 1e-4)
    assert moved


def test_top_kast():
    check("magnitude")


def test_rigl():
    check("rigl")
