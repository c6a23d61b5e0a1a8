"""Dtype policies: in which dtype a layer computes, and in which it keeps its weights."""

from __future__ import annotations

from typing import Any

from ..core import config
from ..core.dtypes import NAMES, as_dtype
from ..core.errors import unknown

_MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


class DTypePolicy:
    """The dtypes of a layer. Policies of one name are equal.

    In mixed precision a layer computes in half precision, which takes half the memory, with weights in float32,
    which small updates change; inputs and weights are cast when the layer is called. Micikevicius et al., "Mixed
    Precision Training" (2018).

    Args:
        name: "mixed_bfloat16", "mixed_float16", or a dtype for both; that of the policy in force by default.

    Raises:
        ValueError: there is no such policy.

    >>> policy = DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    >>> Dense(3, dtype=policy)(np.ones((1, 2))).dtype.name
    'bfloat16'
    """

    def __init__(self, name: str | None = None):
        name = dtype_policy().name if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"The name of a dtype policy is a string; received {name!r}.")
        if name not in _MIXED and name not in NAMES:
            raise unknown("dtype policy", name, (*_MIXED, *NAMES))
        self.name = name

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype of what a layer computes."""
        return _MIXED.get(self.name, self.name)

    @property
    def variable_dtype(self) -> str:
        """Name of the dtype of its weights."""
        return "float32" if self.name in _MIXED else self.name

    def get_config(self) -> dict[str, str]:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, str]) -> DTypePolicy:
        """Make a policy from what :meth:`get_config` returned."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


_policy: DTypePolicy | None = None


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are made without ``dtype``: what was set, else ``floatx``.

    >>> dtype_policy()
    <DTypePolicy "float32">
    """
    return DTypePolicy(config.floatx()) if _policy is None else _policy


def set_dtype_policy(policy: Any) -> None:
    """Set the policy of layers that are made from now on: a policy or its name; None for ``floatx`` again.

    >>> set_dtype_policy("mixed_bfloat16")
    >>> Dense(3).compute_dtype
    'bfloat16'
    >>> set_dtype_policy(None)
    """
    global _policy
    _policy = None if policy is None else get(policy)


def get(identifier: Any) -> DTypePolicy:
    """The policy for a policy, a name, a dtype, a config of one, or None (the policy in force)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict) and identifier.get("class_name") == "DTypePolicy":
        return DTypePolicy.from_config(identifier["config"])
    if isinstance(identifier, str) and identifier in _MIXED:
        return DTypePolicy(identifier)
    return DTypePolicy(as_dtype(identifier).name)


__all__ = ["DTypePolicy", "dtype_policy", "get", "set_dtype_policy"]
