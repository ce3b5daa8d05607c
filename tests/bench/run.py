"""The benches: `/usr/bin/python3 tests/bench/run.py [name...]`, all of them when none is named.

Each prints what it does as it goes; at the end comes a table, and build/bench/results.json keeps the
figures (single benches merge into it). Figures are reported, never asserted: a bench fails only when
a program fails or an answer is wrong.

    BENCH_SCALE=0.1   a tenth of the work, to see that a bench runs; the figures mean nothing then
    PGSTRATA, PG_BINDIR, TMPDIR   the binary, the PostgreSQL, and where the scratch data goes
"""

import importlib
import shutil
import sys
import time

import psycopg2

import measure
from rig import REPOSITORY, BenchError, lib, running_cluster, scratch_folder

BENCHES = ("drain", "pitr", "overhead", "memory", "scaling")
RESULTS = REPOSITORY / "build" / "bench" / "results.json"


def main(names):
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"bench: unknown: {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    names = names or BENCHES
    try:
        lib.sidecar.binary()
        if "pitr" in names and not shutil.which("pgbackrest"):
            raise BenchError("pitr needs pgbackrest; scripts/install-deps.sh bench installs it")
        with scratch_folder() as folder:
            with running_cluster(folder, "facts") as cluster:
                machine = measure.machine(cluster.value("postgres", "SHOW server_version").split()[0])
        print("machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
        rows = []
        for name in names:
            began = time.monotonic()
            print(f"\n{name}", flush=True)
            with scratch_folder() as folder:
                rows += importlib.import_module(f"bench_{name}").run(
                    folder, lambda text: print(f"  {text}", flush=True))
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    except (BenchError, AssertionError, OSError, RuntimeError, psycopg2.Error) as failure:
        sys.stdout.flush()
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    print()
    measure.print_table(rows)
    measure.merge_results(RESULTS, machine, rows, names)
    return 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv[1:]))
