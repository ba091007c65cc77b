"""The base class of compositions, and how their parts are called while a trace is recorded."""

from __future__ import annotations

import inspect
from collections import UserList
from collections.abc import Callable
from functools import partial
from typing import Any

from nflows.transforms.base import InputOutsideDomain, Transform
from nflows.transforms.standard import IdentityTransform
from torch import Tensor

from condflows.bijector import Bijector, Recorded
from condflows.checks import check_invertible
from condflows.hooks import Method, has_hooks, is_marked, is_own, mark
from condflows.trace import Context

__all__ = ["Composition", "Record", "recording", "recording_inverse", "records", "takes_record"]


def records(method: Method) -> Method:
    """Mark a method that appends the trace of its call to a list passed as ``record``."""
    return mark(method, "records")


def takes_record(method: Any) -> bool:
    """Tell whether a method accepts ``record``: it is marked, or its signature has such a parameter."""
    if is_marked(method, "records"):
        return True
    parameters = inspect.signature(method, follow_wrapped=False).parameters
    return "record" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class Record(UserList[Any]):
    """A list of traces that is no ``list``, as hooks of wrappers (FSDP's) hand copies of lists to a call."""


class Composition(Bijector):
    """A bijector made of other bijectors, to which it routes its context.

    ``forward`` and ``inverse`` also take a list as ``record``, and append the trace of the call to it. So a recorded
    pass is a call like any other.
    """

    checkpoint = False

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True if one of the parts can read a context."""
        return any(getattr(part, "reads_context", True) for part in self.parts or ()
                   if not isinstance(part, IdentityTransform))

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map data to noise and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        record = Record()
        outputs, logabsdet = self(inputs, context, **({"record": record} if takes_record(self.forward) else {}))
        if not record:  # overridden by a method that does not record: what it overrides makes the trace
            _recording_method(self, "forward")(self, inputs, context, record)
        return outputs, logabsdet, record[0]

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map noise to data and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        record = Record()
        outputs, logabsdet = self.inverse(inputs, context, **({"record": record} if takes_record(self.inverse) else {}))
        if not record:
            _recording_method(self, "inverse")(self, inputs, context, record)
        return outputs, logabsdet, record[0]


def recording(part: Transform, record: list[Any] | None) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a callable that runs the part forward; given a list as ``record``, it appends the call's trace to it."""
    check_invertible(part)
    if record is None:
        return partial(_in_domain, part, part) if is_of_nflows(part) else part
    if isinstance(part, Composition) and is_marked(part.forward, "records"):
        return partial(_into, record, part)
    return partial(_recorded, part, part, getattr(part, "forward_with_trace", None), record)


def recording_inverse(part: Transform, record: list[Any] | None) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a callable that runs the part's inverse; given a list as ``record``, it appends the call's trace to it."""
    check_invertible(part)
    if record is None:
        return partial(_in_domain, part, part.inverse) if is_of_nflows(part) else part.inverse
    if isinstance(part, Composition) and is_marked(part.inverse, "records"):
        return partial(_into, record, part.inverse)
    return partial(_recorded, part, part.inverse, getattr(part, "inverse_with_trace", None), record)


def is_of_nflows(part: Any) -> bool:
    """Tell whether a part is a transform of nflows and no bijector."""
    return isinstance(part, Transform) and not isinstance(part, Bijector)


def _in_domain(part: Any, call: Callable[..., tuple[Tensor, Tensor]], inputs: Tensor,
               context: Context) -> tuple[Tensor, Tensor]:
    """Call a transform of nflows, and say which one it is where inputs lie outside of its domain."""
    try:
        return call(inputs, context)
    except InputOutsideDomain as error:
        low, high = float(inputs.detach().min()), float(inputs.detach().max())
        raise InputOutsideDomain(
            f"{type(part).__name__} of nflows is not defined for some of these inputs, {low:.4g} to {high:.4g}; "
            "condflows.Logit(low, high) gives such rows the log-density -inf and leaves the others alone, and splines "
            "take any value with tails='linear'") from error


def _into(record: Any, call: Callable[..., tuple[Tensor, Tensor]], inputs: Tensor,
          context: Context) -> tuple[Tensor, Tensor]:
    """Call a composition and append its trace to ``record``."""
    own = Record()
    outputs, logabsdet = call(inputs, context, record=own)
    record.extend(own)
    return outputs, logabsdet


def _recorded(part: Any, call: Callable[..., tuple[Tensor, Tensor]], with_trace: Callable[..., Recorded] | None,
              record: list[Any], inputs: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Call a part and append its trace to ``record``: its outputs, or the trace that ``with_trace`` returns."""
    if with_trace is None or getattr(part, "parts", None) is None:
        outputs, logabsdet = _in_domain(part, call, inputs, context)
        record.append(outputs)
        return outputs, logabsdet
    outputs, logabsdet, trace = with_trace(inputs, context)
    record.append(trace)
    # A forward_with_trace of a user's own does not call the part.
    calls = any(is_own(part, kind, "forward_with_trace") for kind in (Bijector, Composition))
    return call(inputs, context) if call is part and has_hooks(part) and not calls else (outputs, logabsdet)


def _recording_method(composition: Composition, name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the method ``name`` of the nearest base class in which it records."""
    methods: Any = (vars(kind).get(name) for kind in type(composition).__mro__)
    return next(method for method in methods if is_marked(method, "records"))
