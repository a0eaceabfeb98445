"""Counts the cells of NAS-Bench-101 that differ, by their number of vertices.

Published (Ying et al. 2019, arXiv 1902.09635): 1, 6, 84, 2,441, 62,010 and 359,082 cells of 2 to 7
vertices, 423,624 in all. Here they are counted as orbits of the labelled graphs (Burnside's lemma),
without the benchmark's hash.

    python experiments/reproduce/nas_bench_101_cells.py [--vertices=7] [--json]

Cost: about half a minute on one core, all but a second of it for 7 vertices. Expected: the numbers
above, and exit code 0; 1 where a number differs.
"""

import argparse
import json
import sys
import time

from jnas.spaces.nas_bench_101_cells import Wirings

PUBLISHED = {2: 1, 3: 6, 4: 84, 5: 2_441, 6: 62_010, 7: 359_082}


def main() -> int:
    """Prints one line for every number of vertices."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vertices", type=int, default=7, choices=PUBLISHED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for n in range(2, options.vertices + 1):
        start = time.perf_counter()
        wirings = Wirings(n)
        row = {"vertices": n, "graphs": len(wirings.matrices), "cells": wirings.count()}
        row |= {"published": PUBLISHED[n], "seconds": round(time.perf_counter() - start, 2)}
        rows.append(row)
        if not options.json:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    total = sum(row["cells"] for row in rows)
    if options.json:
        print(json.dumps({"rows": rows, "cells": total}))
    else:
        print(f"cells in all: {total}")
    return int(any(row["cells"] != row["published"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
