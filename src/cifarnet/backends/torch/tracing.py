"""Simplify a traced training step."""

from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from cifarnet.errors import BackendError

GUARDS = (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh_copy.default)
"""Copies that protect constants and leaves from in-place operations, which a traced step does not have."""


def functional(traced: torch.fx.GraphModule, arguments: tuple[Any, ...]) -> torch.fx.GraphModule:
    """Return ``traced`` with new results in place of in-place operations on its own, which Keras' losses have."""
    if not any(_is_mutable(node) for node in traced.graph.nodes):
        return traced
    return make_fx(torch.func.functionalize(traced))(*arguments)


def _is_mutable(node: torch.fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def require_repeatable(node: torch.fx.Node) -> None:
    """Raise ``BackendError`` if an operation would give other results when repeated.

    It does if it writes to a constant or draws random numbers.
    """
    if _is_mutable(node) or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise BackendError(
            f"torch traced {node.target}; expected operations that neither write to their inputs nor draw random "
            "numbers: use layers without them, or another backend"
        )


def simplified(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Remove the protective copies, and fold constants."""
    graph = traced.graph
    for node in graph.nodes:
        require_repeatable(node)
        if node.target in GUARDS:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "call_function" and all(each.op == "get_attr" for each in node.all_input_nodes):
            constants = torch.fx.map_arg((node.args, node.kwargs), lambda each: getattr(traced, each.target))
            traced.register_buffer(f"constant_{node.name}", node.target(*constants[0], **constants[1]))
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(f"constant_{node.name}"))
            graph.erase_node(node)
    graph.eliminate_dead_code()
    traced.recompile()
    return traced
