#!/usr/bin/python3
"""check_metrics.py FILE: is it what Prometheus takes? By its own client library.

Prints each metric's name. Beyond the grammar: one HELP and one TYPE for each, no series twice,
buckets that grow, and a _count that is the last of them.
"""
import sys

from prometheus_client.parser import text_fd_to_metric_families


def fail(what):
    sys.exit(f"check_metrics: {sys.argv[1]}: {what}")


def check_histogram(family):
    buckets = {}
    counts = {}
    for sample in family.samples:
        labels = {k: v for k, v in sample.labels.items() if k != "le"}
        key = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, values in buckets.items():
        if values != sorted(values) or values[-1][0] != float("inf"):
            fail(f"{family.name}{key}: buckets not in order")
        if any(a[1] > b[1] for a, b in zip(values, values[1:])):
            fail(f"{family.name}{key}: buckets do not grow")
        if counts.get(key) != values[-1][1]:
            fail(f"{family.name}{key}: _count is not the last bucket")


seen = set()
with open(sys.argv[1], encoding="utf-8") as file:
    for family in text_fd_to_metric_families(file):
        if family.type == "unknown" or not family.documentation:
            fail(f"{family.name}: no TYPE or no HELP")
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            if key in seen:
                fail(f"{key} twice")
            seen.add(key)
            if sample.value < 0:
                fail(f"{key} is negative")
            print(sample.name)
        if family.type == "histogram":
            check_histogram(family)
