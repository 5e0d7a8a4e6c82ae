"""The kinds of kernel objects: what each is, and when two are the same. Pure; one file for each kind.

`KINDS` is the order in which they are removed, read backwards. A kind is complete with a module of the same name
in `observe/` and in `actuate/`.
"""

from __future__ import annotations

KINDS = ("link", "owner", "wireguard", "peer", "listen", "address", "route", "rule", "nat", "forward", "sysctl", "resolver")
CARRIERS = ("link", "owner", "wireguard")  # what others hang on
