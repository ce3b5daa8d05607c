"""Targets: one moment in history, said once in pgstrata's words and once in PostgreSQL's.

pgstrata and PostgreSQL agree on what a target keeps (DESIGN 6) when: an LSN is a record boundary and
PostgreSQL stops exclusively there; a time does not lie where an abort, which is not in the stream,
would stop PostgreSQL earlier; an xid belongs to a transaction that changed covered tables.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Iterable, Sequence

from lib.cluster import lsn_text
from lib.wal import Ending

WAL_PAGE_BYTES = 8192


@dataclass(frozen=True)
class Target:
    kind: str
    value: str
    exclusive: bool
    position: int  # where recovery stops: the order in which an oracle visits its targets
    recovery: tuple[tuple[str, str], ...]  # PostgreSQL's settings

    def pitr_words(self) -> list[str]:
        return [f"--{self.kind}", self.value, *(["--exclusive"] if self.exclusive else [])]

    def export_words(self) -> list[str]:
        """`export` has a shorter name for an inclusive time, as other commands that read one moment."""
        if self.kind == "target-time" and not self.exclusive:
            return ["--at", self.value]
        return self.pitr_words()

    def __str__(self) -> str:
        return " ".join(self.pitr_words())


def _target(kind: str, value: str, position: int, exclusive: bool = False, **recovery: str) -> Target:
    settings = {f"recovery_target_{name}": setting for name, setting in recovery.items()}
    return Target(kind, value, exclusive, position, tuple(settings.items()))


def at_lsn(lsn: int) -> Target:
    return _target("target-lsn", lsn_text(lsn), lsn, lsn=lsn_text(lsn), inclusive="off")


def before_lsn(commit: Ending, by_end: bool = False) -> Target:
    value = commit.next_lsn if by_end else commit.lsn
    return _target("before-lsn", lsn_text(value), commit.lsn, lsn=lsn_text(commit.lsn), inclusive="off")


def at_xid(commit: Ending) -> Target:
    return _target("target-xid", str(commit.xid), commit.next_lsn, xid=str(commit.xid), inclusive="on")


def before_xid(commit: Ending) -> Target:
    return _target("before-xid", str(commit.xid), commit.lsn, xid=str(commit.xid), inclusive="off")


def excluding_xid(commit: Ending) -> Target:
    return _target("target-xid", str(commit.xid), commit.lsn, exclusive=True, xid=str(commit.xid), inclusive="off")


def at_name(name: str, lsn: int) -> Target:
    """A restore point of pgstrata's: PostgreSQL knows it by its LSN."""
    return _target("target-name", name, lsn, lsn=lsn_text(lsn), inclusive="off")


def at_time(when: datetime, endings: Sequence[Ending], covered: set[int], exclusive: bool = False) -> Target | None:
    """None where the two would rightly disagree: an abort stops PostgreSQL, which the stream does not have,
    and commits of before that time come after it. (Commit times run backwards by microseconds: a
    transaction takes its time before it gets its place in the WAL.)"""
    def beyond(ending: Ending) -> bool:
        return ending.time >= when if exclusive else ending.time > when

    stop = next((ending for ending in endings if beyond(ending)), None)
    cut = next((ending for ending in endings if ending.commit and ending.xid in covered and beyond(ending)), None)
    if stop is None or cut is None:
        return None
    if any(e.commit and e.xid in covered and stop.lsn <= e.lsn < cut.lsn for e in endings):
        return None
    text = when.isoformat(timespec="microseconds")
    return _target("target-time", text, stop.lsn, exclusive,
                   time=text.replace("T", " "), inclusive="off" if exclusive else "on")


def spread(endings: Sequence[Ending], covered: set[int], boundaries: Iterable[int], count: int,
           rng: random.Random) -> list[Target]:
    """About `count` targets of all kinds, at random moments of the run, in the order of their positions.

    `covered` are the transactions that changed covered tables, `boundaries` LSNs that a client saw."""
    commits = [ending for ending in endings if ending.commit and ending.xid in covered]
    boundary_lsns = sorted(boundaries)
    # The last commits are left alone, so that something comes after every time target.
    inner = commits[2:-5]
    assert len(inner) > count and boundary_lsns, f"too little happened: {len(commits)} commits"

    starts = {ending.lsn for ending in endings}
    ends = {ending.next_lsn for ending in endings}

    def before(commit: Ending) -> Target | None:
        """By the LSN where it starts or ends; not where that is another's end or start, which is refused."""
        if commit.lsn in ends or commit.next_lsn in starts:
            return None
        # The record after it starts where it ends unless a page header lies between.
        same_page = commit.lsn // WAL_PAGE_BYTES == commit.next_lsn // WAL_PAGE_BYTES
        return before_lsn(commit, by_end=same_page and rng.random() < 0.5)

    def between(commit: Ending) -> datetime:
        """Some moment after this commit, before or after the next one's."""
        return commit.time + timedelta(microseconds=rng.randrange(1, 20000))

    makers = (
        lambda c: at_lsn(c.lsn),
        lambda c: at_lsn(c.next_lsn),
        lambda c: at_lsn(rng.choice(boundary_lsns)),
        at_xid,
        before_xid,
        excluding_xid,
        before,
        before,
        lambda c: at_time(c.time, endings, covered),
        lambda c: at_time(c.time, endings, covered, exclusive=True),
        lambda c: at_time(between(c), endings, covered),
    )
    chosen: dict[str, Target] = {}
    number = 0
    while len(chosen) < count:
        # The first of the commits, in random order, that this kind of target can be told of.
        made = map(makers[number % len(makers)], rng.sample(inner, len(inner)))
        target = next((target for target in made if target is not None and str(target) not in chosen), None)
        number += 1
        if target is not None:
            chosen[str(target)] = target
    return in_order(chosen.values())


def in_order(targets: Iterable[Target]) -> list[Target]:
    return sorted(targets, key=lambda target: target.position)
