"""Whether processes stay as large as they are.

    soak_memory.py SECONDS SLACK_KIB <SAMPLES

A sample is a line "TIME PID NAME KIB", TIME in seconds since the beginning. What a process has in
each third of the time is the median of its samples. One that lived through the second and the last
third must not have more in the last than in the second, but for the slack.
"""
import statistics
import sys
from collections import defaultdict

THIRDS = 3
SAMPLES_MIN = 5


def main():
    seconds, slack = float(sys.argv[1]), int(sys.argv[2])
    names, samples = {}, defaultdict(lambda: [[] for _ in range(THIRDS)])
    for line in sys.stdin:
        at, pid, name, kib = line.split()
        names[pid] = name
        third = min(int(float(at) / seconds * THIRDS), THIRDS - 1)
        samples[pid][third].append(int(kib))
    judged, grown = set(), 0
    for pid, thirds in samples.items():
        if min(len(third) for third in thirds[1:]) < SAMPLES_MIN:
            continue
        sizes = [round(statistics.median(third)) if third else None for third in thirds]
        judged.add(names[pid])
        grown += sizes[2] - sizes[1] > slack
        print(f"{names[pid]} {pid}: {sizes[0]}, {sizes[1]}, {sizes[2]} KiB")
    missing = set(names.values()) - judged
    if missing:
        print("no process lived long enough: " + ", ".join(sorted(missing)))
    return 1 if grown or missing else 0


sys.exit(main())
