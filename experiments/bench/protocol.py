"""The line protocol of `bench --serve`, for programs in Python.

A program prints a line of JSON when it is ready; then, for each line `<workload> <seconds>` that it reads, a line
`{"w": name, "ms": [time of each step], "loss": last loss}` or `{"w": name, "error": text}`. A workload runs at least
five steps, and at its first use half a second more to warm up.
"""
import json
import sys
import time

LEAST_STEPS = 5
WARM_UP = 0.5

# Shapes of the Gumbel-Softmax samples; a name with an h at its end is straight-through.
SAMPLES = {"W3a": (64, 50257), "W3b": (4096, 32), "W3c": (3000, 10)}


def repeat(step, seconds):
    times, loss, start = [], 0.0, time.perf_counter()
    while len(times) < LEAST_STEPS or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        loss = step()
        times.append(1e3 * (time.perf_counter() - begin))
    return times, loss


def serve(ready, workloads):
    """Answers requests; `workloads` maps a name to a function that makes a function of one step."""
    warm = {}
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        try:
            if name not in warm:
                warm[name] = workloads[name]()
                repeat(warm[name], WARM_UP)
            times, loss = repeat(warm[name], float(seconds))
            answer = {"w": name, "ms": times, "loss": loss}
        except Exception as error:  # whatever it is, the other side has to hear of it
            answer = {"w": name, "error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
