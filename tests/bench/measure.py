"""What a process used, and what the figures say."""

import json
import os
import platform
import statistics

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a living process, or None once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            # The second field is the program's name in parentheses, which may hold spaces.
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_memory_bytes(pid):
    """The most memory the process ever held (VmHWM)."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM: not a Linux process")


def median(values):
    return statistics.median(values)


def result(name, ours, peer, unit, lower_is_better, note=""):
    """One row of the answer. `ours` and `peer` are lists of runs, or a bound as a bare number.

    ratio > 1 means that pgstrata is better."""
    mine = median(ours)
    bound = not isinstance(peer, list)
    theirs = peer if bound else median(peer)
    ratio = None
    if theirs is not None and mine and theirs:
        ratio = theirs / mine if lower_is_better else mine / theirs
    row = {
        "name": name,
        "ours": _rounded(mine),
        "peer": _rounded(theirs),
        "unit": unit,
        "ratio": None if ratio is None else round(ratio, 3),
        "runs": len(ours),
        "samples": {"ours": [_rounded(v) for v in ours],
                    "peer": [] if bound else [_rounded(v) for v in peer]},
    }
    if note:
        row["note"] = note
    return row


def _rounded(value):
    if value is None:
        return None
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def machine(server_version):
    """What the figures depend on; neither host names nor paths."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        kib = int(next(line for line in meminfo if line.startswith("MemTotal:")).split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": kib // 1024,
        "cpu": model,
        "kernel": platform.release(),
        "postgresql": server_version,
    }


def merge_results(path, machine_facts, rows, benches):
    """Replaces the rows of the benches that ran just now, keeps the others."""
    kept = []
    if path.exists():
        kept = [row for row in json.loads(path.read_text(encoding="utf-8"))["results"]
                if row["name"].split(".")[0] not in benches]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"machine": machine_facts, "results": kept + rows}, indent=2) + "\n", encoding="utf-8")
    new.replace(path)


def print_table(rows):
    head = ("bench", "pgstrata", "peer", "unit", "ratio", "runs")
    cells = [head] + [(row["name"], _plain(row["ours"]), _plain(row["peer"]), row["unit"], _plain(row["ratio"]),
                       str(row["runs"])) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("  ".join(v.ljust(w) if i in (0, 3) else v.rjust(w)
                        for i, (v, w) in enumerate(zip(line, widths))).rstrip())
    print("ratio > 1: pgstrata is better")
    for row in rows:
        if row.get("note"):
            print(f"{row['name']}: {row['note']}")


def _plain(value):
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")
