"""Which places inside a network an adapter kind takes: by role, and counted from the end."""

import re
from collections.abc import Collection, Sequence

from multiadapt.errors import SpecError
from multiadapt.types import Role, Site

__all__ = ["check_blocks", "check_roles", "inside"]


def check_roles(roles: Collection[Role], known: Collection[Role], kind: str) -> None:
    """SpecError where a role is none that a kind of adapter can take."""
    if unknown := [role for role in roles if role not in known]:
        raise SpecError(f"{kind} takes the roles {', '.join(known)}; got {', '.join(unknown)}")


def check_blocks(blocks: str | None) -> None:
    """SpecError where `blocks` is neither None nor like "last 4"."""
    if blocks is not None and not re.fullmatch(r"last [1-9]\d*", blocks):
        raise SpecError(f"blocks must be None (all) or such as 'last 4', got {blocks!r}")


def inside(
    sites: Sequence[Site],
    roles: Collection[Role],
    map_roles: Collection[Role],
    blocks: str | None = None,
) -> list[Site]:
    """The sites with a role of `roles`; with one of `map_roles` in networks of feature maps (CNNs).

    Streams without blocks inside, such as a table's, have none. SpecError where a stream has blocks
    but no place of the asked roles.
    """
    chosen: list[Site] = []
    for stream in dict.fromkeys(s.stream for s in sites):
        own = [s for s in sites if s.stream == stream and s.role not in ("pooled", "entry")]
        asked = map_roles if any(s.layout == "map" for s in own) else roles
        found = [s for s in own if s.role in asked]
        if own and asked and not found:
            there = ", ".join(dict.fromkeys(s.role for s in own))
            raise SpecError(
                f"nothing in the network of {stream!r} has a role of {', '.join(asked)}; it has {there}"
            )
        first = _first(blocks, stream, own)
        chosen += [s for s in found if s.block >= first]
    return chosen


def _first(blocks: str | None, stream: str, own: Sequence[Site]) -> int:
    """Number of the first block that counts."""
    if blocks is None or not own:
        return 0
    depth, wanted = max(s.block for s in own) + 1, int(blocks.removeprefix("last "))
    if wanted > depth:
        raise SpecError(f"blocks is {blocks!r}, but the network of {stream!r} has {depth} blocks")
    return depth - wanted
