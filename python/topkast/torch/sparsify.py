"""From a dense model to a sparse one, in place, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._topkast import Weight, counts, name_matches
from .attention import SparseMultiheadAttention
from .conv import SparseConv2d, pair
from .feed_forward import joined, parted
from .layer import SparseLayer, new_seed
from .linear import SparseLinear
from .sets import Sets, capsule
from .table import table

RESERVOIRS = ("dense", "implicit")
TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@dataclass
class _Weight:
    """A dense weight that can become sparse."""

    name: str
    tensor: Tensor
    counts: tuple[int, int] = (0, 0)
    reason: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], self.tensor[0].numel()


def sparsify(
    model: nn.Module,
    forward_sparsity: float = 0.9,
    backward_sparsity: float | None = None,
    *,
    include: Sequence[str] = ("*",),
    skip: Sequence[str] = (),
    keep_ends: bool = True,
    layers: Mapping[str, tuple[float, float]] | None = None,
    distribution: str = "uniform",
    initial: str = "magnitude",
    reservoir: str = "dense",
    verbose: bool = True,
) -> nn.Module:
    """Swaps the model's `Linear`, `Conv2d` and `MultiheadAttention` layers for sparse ones, and returns it.

    - `forward_sparsity`, `backward_sparsity`: the shares of a weight outside A and outside B; by default B = A.
    - `include`, `skip`: names of layers to swap and to keep dense; `*` stands for any run of characters.
    - `keep_ends`: keeps the first convolution and the last layer dense, too.
    - `layers`: (forward, backward) of its own for the layers a pattern matches; the last that matches counts.
    - `distribution`: "uniform", or "erk" (small layers are denser, exact in total).
    - `initial`: A is the largest in "magnitude", or "random" (for Static, SET and RigL; then B = A).
    - `reservoir`: where C, the weights outside B, is. "dense": all given values are kept, in 4 bytes each. "implicit": the given
      values are replaced by fresh ones of the same variance, of which C need not be stored.
    - `verbose`: prints a table of what became of every layer.

    Make the optimizer afterwards. Weights that are shared, or belong to layers the kernels do not know, stay dense; the table
    says why.
    """
    if initial not in ("magnitude", "random"):
        raise ValueError(f'initial must be "magnitude" or "random", not {initial!r}')
    if reservoir not in RESERVOIRS:
        raise ValueError(f"reservoir must be one of {RESERVOIRS}, not {reservoir!r}")
    backward = forward_sparsity if backward_sparsity is None else backward_sparsity
    if initial == "random" and backward != forward_sparsity:
        raise ValueError("a random A comes with B = A: leave backward_sparsity out")
    weights = list(_weights(model))
    _keep(model, weights, include, skip, keep_ends)
    _count(weights, forward_sparsity, backward, layers or {}, distribution)
    rows = [_row(weight) for weight in weights]
    method = "magnitude" if initial == "magnitude" else "static"
    chosen = {weight.name: weight for weight in weights if not weight.reason}
    if not chosen:
        raise ValueError("no layer is left to be sparse:\n" + table(rows))
    model = _swap(model, lambda name, tensor: _sets(chosen[name], tensor, method, reservoir) if name in chosen else None)
    _leave_to_ranks(model)
    if verbose:
        print(table(rows))
    return model


def densify(model: nn.Module) -> nn.Module:
    """Swaps sparse layers for dense ones that compute the same, with zeros outside A; returns the model."""
    if isinstance(model, (SparseLinear, SparseConv2d, SparseMultiheadAttention)):
        return model.densify()
    for name, child in model.named_children():
        setattr(model, name, densify(child))
    parted(model)
    ignored = list(getattr(model, "_ddp_params_and_buffers_to_ignore", []))
    if ignored:
        others = [name for name in ignored if not name.endswith((".indices", ".active"))]
        model._ddp_params_and_buffers_to_ignore = others  # type: ignore[assignment]
    return model


def _weights(model: nn.Module) -> Iterator[_Weight]:
    """Every weight that could become sparse, and why it cannot."""
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)

    def weight(name: str, parameter: Tensor, reason: str = "") -> _Weight:
        shared = len(users.get(id(parameter), [])) > 1
        return _Weight(name, parameter, reason="its weight is shared" if shared and not reason else reason)

    inside: set[str] = set()
    for name, module in model.named_modules():
        if name.rpartition(".")[0] in inside:
            inside.add(name)
            continue
        if isinstance(module, nn.MultiheadAttention):
            inside.add(name)
            reason = _why_not_attention(module)
            projection = module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
            yield weight(_join(name, "in_proj"), projection, reason)
            yield weight(_join(name, "out_proj"), module.out_proj.weight, reason)
        elif isinstance(module, nn.Linear):
            reason = "" if type(module) is nn.Linear else f"is a {type(module).__name__}"
            yield weight(name, module.weight, reason)
        elif isinstance(module, nn.Conv2d):
            yield weight(name, module.weight, _why_not_convolution(module))


def _why_not_attention(module: nn.MultiheadAttention) -> str:
    if type(module) is not nn.MultiheadAttention:
        return f"is a {type(module).__name__}"
    if module.in_proj_weight is None:
        return "query, key and value are of different widths"
    return "adds keys of its own" if module.bias_k is not None or module.add_zero_attn else ""


def _why_not_convolution(module: nn.Conv2d) -> str:
    if type(module) is not nn.Conv2d:
        return f"is a {type(module).__name__}"
    if module.groups != 1:
        return f"has {module.groups} groups"
    if module.padding_mode != "zeros":
        return f"pads with {module.padding_mode}"
    return "" if _padding(module) is not None else "pads the two sides differently"


def _padding(module: nn.Conv2d) -> tuple[int, int] | None:
    if module.padding == "valid":
        return 0, 0
    if isinstance(module.padding, str):
        reach = [dilation * (size - 1) for dilation, size in zip(module.dilation, module.kernel_size)]
        return None if any(one % 2 for one in reach) else (reach[0] // 2, reach[1] // 2)
    return pair(module.padding)


def _keep(
    model: nn.Module, weights: list[_Weight], include: Sequence[str], skip: Sequence[str], keep_ends: bool
) -> None:
    """Gives those that are to stay dense their reason."""
    for pattern in [*skip, *include]:
        if not any(_matches(pattern, weight.name) for weight in weights):
            raise ValueError(f"no layer is named {pattern!r}: there are {', '.join(one.name for one in weights)}")
    ends: dict[str, str] = {}
    if keep_ends and len(weights) > 1:
        first = next((weight for weight in weights if weight.tensor.dim() == 4), None)
        if first is not None:
            ends[first.name] = "the first convolution"
        # The last layer of a stack of equal ones is not an output layer.
        stacks = [name for name, module in model.named_modules() if isinstance(module, TRANSFORMER_LAYERS)]
        if not any(weights[-1].name.startswith(_join(stack, "")) for stack in stacks):
            ends[weights[-1].name] = "the last layer"
    for weight in weights:
        if weight.reason:
            continue
        if any(_matches(pattern, weight.name) for pattern in skip):
            weight.reason = "in skip"
        elif not any(_matches(pattern, weight.name) for pattern in include):
            weight.reason = "not in include"
        else:
            weight.reason = ends.get(weight.name, "")
    _pair_attention(weights)


def _pair_attention(weights: list[_Weight]) -> None:
    """Attention is swapped whole or not at all."""
    by_name = {weight.name: weight for weight in weights}
    for name, weight in by_name.items():
        other = by_name.get(_join(name.rpartition(".")[0], "in_proj"))
        if name.endswith("out_proj") and other is not None and bool(weight.reason) != bool(other.reason):
            kept = weight if not weight.reason else other
            kept.reason = "the attention's other projection is dense"


def _matches(pattern: str, name: str) -> bool:
    """The layer itself, or the module it is in."""
    return name_matches(pattern, name) or name_matches(f"{pattern}.*", name)


def _count(
    weights: list[_Weight],
    forward: float,
    backward: float,
    layers: Mapping[str, tuple[float, float]],
    distribution: str,
) -> None:
    """Gives every weight its |A| and |B|."""
    own: dict[str, tuple[float, float]] = {}
    for pattern, sparsities in layers.items():
        matching = [weight.name for weight in weights if _matches(pattern, weight.name)]
        if not matching:
            raise ValueError(f"no layer is named {pattern!r}: there are {', '.join(one.name for one in weights)}")
        own.update(dict.fromkeys(matching, sparsities))
    # Impossible numbers are an error whatever the layers.
    counts(forward, backward, [], distribution)
    common = [weight for weight in weights if not weight.reason and weight.name not in own]
    if distribution == "erk" and common:
        for weight, found in zip(common, counts(forward, backward, [weight.shape for weight in common], "erk")):
            weight.counts = found
    for weight in weights:
        if weight.reason or weight.counts != (0, 0):
            continue
        try:
            [weight.counts] = counts(*own.get(weight.name, (forward, backward)), [weight.shape], "uniform")
        except ValueError as error:
            if weight.name in own:
                raise
            weight.reason = str(error).partition(";")[0]


def _sets(weight: _Weight, tensor: Tensor, method: str, reservoir: str) -> Sets:
    """The sets of a weight, made of its dense tensor."""
    sets = Sets(*weight.shape, method, new_seed())
    active, backward = weight.counts
    theta = tensor.detach().to("cpu", torch.float32)
    if reservoir == "implicit":
        deviation = float(theta.square().mean().sqrt())
        fourth = float((theta / max(deviation, 1e-30)).pow(4).mean())
        # 1.8 for uniform numbers, 3 for normal ones.
        sets.initial = (deviation, "uniform" if fourth < 2.4 else "normal")
        sets.weight = Weight.fresh(*weight.shape, active, backward, method, sets.seed, *sets.initial)
    else:
        theta = theta.reshape(weight.shape).contiguous()
        sets.weight = Weight.from_theta(capsule(theta), active, backward, method, sets.seed)
    return sets


def _swap(model: nn.Module, sets: Callable[[str, Tensor], Sets | None]) -> nn.Module:
    """The model with its layers swapped for which `sets` has any."""
    # A module in several places is one module.
    made: dict[int, nn.Module] = {}

    def visit(name: str, module: nn.Module) -> nn.Module:
        if id(module) in made:
            return made[id(module)]
        new = _swapped(name, module, sets)
        if new is module and not isinstance(module, nn.MultiheadAttention):
            for child_name, child in list(module.named_children()):
                replaced = visit(_join(name, child_name), child)
                if replaced is not child:
                    setattr(module, child_name, replaced)
            joined(module)
        made[id(module)] = new
        return new

    return visit("", model)


def _swapped(name: str, module: nn.Module, sets: Callable[[str, Tensor], Sets | None]) -> nn.Module:
    if isinstance(module, nn.MultiheadAttention):
        projection, output = module.in_proj_weight, module.out_proj
        if projection is None:
            return module
        of_input, of_output = sets(_join(name, "in_proj"), projection), sets(_join(name, "out_proj"), output.weight)
        if of_input is None or of_output is None:
            return module
        new: nn.Module = SparseMultiheadAttention(
            SparseLinear.of(of_input, _bias(module.in_proj_bias), projection.device, projection.dtype),
            SparseLinear.of(of_output, _bias(output.bias), projection.device, projection.dtype),
            module.num_heads,
            module.dropout,
            module.batch_first,
        )
    elif isinstance(module, nn.Linear):
        found = sets(name, module.weight)
        if found is None:
            return module
        new = SparseLinear.of(found, _bias(module.bias), module.weight.device, module.weight.dtype)
    elif isinstance(module, nn.Conv2d):
        found = sets(name, module.weight)
        if found is None:
            return module
        padding = _padding(module)
        assert padding is not None
        window = (pair(module.kernel_size), pair(module.stride), padding, pair(module.dilation))
        new = SparseConv2d.of(found, window, _bias(module.bias), module.weight.device, module.weight.dtype)
    else:
        return module
    return new.train(module.training)


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().clone()


def _leave_to_ranks(model: nn.Module) -> None:
    """Has DDP leave the sets alone: they are the same on all ranks, which topologies check, and need not be sent in every step."""
    names = list(getattr(model, "_ddp_params_and_buffers_to_ignore", []))
    for name, module in model.named_modules():
        if isinstance(module, SparseLayer):
            names += [_join(name, "indices"), _join(name, "active")]
    model._ddp_params_and_buffers_to_ignore = names  # type: ignore[assignment]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _row(weight: _Weight) -> tuple[str, ...]:
    rows, width = weight.shape
    shape = f"{rows}x{width}"
    if weight.reason:
        return weight.name or "(the model)", shape, "", "", f"dense: {weight.reason}"
    active, backward = weight.counts
    share = f"{1 - active / (rows * width):.1%} / {1 - backward / (rows * width):.1%}"
    return weight.name or "(the model)", shape, f"{active:,}", f"{backward:,}", share
