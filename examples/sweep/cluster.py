"""A sweep on two workers of a Dask cluster, both on this machine here: ``cluster.py [journal]``.

``pip install ".[cluster]"`` in a clone of pvfast. On a real cluster only the line that makes the client changes;
docs/sweeps.md shows it for Slurm. Interrupt it and start it again with the same journal: it goes on where it was.
"""

import sys

from distributed import Client, LocalCluster

from pvfast.experiments import workload_names
from pvfast.experiments.sweep import points, sweep


def main() -> None:
    wanted = points(workload_names(), ["native", "xen"], ["pentium4", "skylake", "skylake-retpoline"])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        table = sweep(wanted, client.get_executor(), journal=sys.argv[1] if len(sys.argv) > 1 else None)
    print(table.to_csv(), end="")


if __name__ == "__main__":
    main()
