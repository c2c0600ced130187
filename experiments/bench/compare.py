#!/usr/bin/env python3
"""Compares programs that speak the protocol of protocol.py, in turns; prints a table in Markdown.

    python3 compare.py --program 'PyTorch=python3 peers_torch.py' --program 'gumbel=bench --serve' --workloads W1,W2

Each round runs every program on a workload once, one after the other, so that all see the same machine. A cell is the
median over the rounds of the medians of each, with the least and the largest, and the ratio to the last program. While
other processes use more than 5 % of the machine a turn is repeated, up to five times. Unix; Linux for the load of
others and for --memory.
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ATTEMPTS, MOST_FOREIGN = 5, 0.05
PAUSE = 0.25  # seconds before a turn: the threads of some libraries go on looking for work


def arguments():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--program", action="append", required=True, metavar="NAME=COMMAND")
    parser.add_argument("--workloads", default="W1,W2,W3a,W3b,W3c,W3ah,W3bh,W3ch,W4")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each program and round")
    parser.add_argument("--memory", action="store_true", help="peak memory of a step instead of time")
    return parser.parse_args()


class Program:
    """A running program, on as many processors as it may have threads."""

    def __init__(self, spec, threads):
        self.name, command = spec.split("=", 1)
        environment = dict(os.environ)
        for library in ("OMP", "MKL", "OPENBLAS", "RAYON"):
            environment[f"{library}_NUM_THREADS"] = str(threads)
        command = shlex.split(command)
        if sys.platform == "linux":
            command = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))] + command
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self.ready = self.read()["ready"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended without an answer")
        return json.loads(line)

    def run(self, workload, seconds):
        print(workload, seconds, file=self.process.stdin, flush=True)
        answer = self.read()
        return answer if "error" not in answer else print(f"{self.name}: {answer}", file=sys.stderr)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()

    def status(self, field):
        """A size in MiB of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    def processor_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting


def turn(program, workload, seconds):
    """The median step in milliseconds, and the share of the machine that others used meanwhile."""
    best = None
    for _ in range(ATTEMPTS):
        time.sleep(PAUSE)
        linux = sys.platform == "linux"
        before = (time.monotonic(), busy_seconds() - program.processor_seconds()) if linux else None
        answer = program.run(workload, seconds)
        if answer is None:
            return None
        foreign = 0.0
        if linux:
            elapsed = time.monotonic() - before[0]
            foreign = (busy_seconds() - program.processor_seconds() - before[1]) / elapsed / os.cpu_count()
        if best is None or foreign < best[1]:
            best = statistics.median(answer["ms"]), foreign
        if best[1] <= MOST_FOREIGN:
            break
    return best


def digits(x):
    return f"{x:.3g}" if x < 100 else f"{x:.0f}"


def times(programs, workload, options):
    able = [program for program in programs if program.run(workload, 0)]
    turns = {program.name: [] for program in able}
    for _ in range(options.rounds):
        for program in able[:]:
            result = turn(program, workload, options.seconds)
            if result is None:  # it said why; a row without it is better than none
                able.remove(program)
                turns[program.name] = []
            else:
                turns[program.name].append(result)
    medians = {name: [ms for ms, _ in values] for name, values in turns.items()}
    last = medians.get(programs[-1].name)
    cells = []
    for program in programs:
        values = medians.get(program.name)
        if not values:
            cells.append("–")
            continue
        ratio = f" {statistics.median(values) / statistics.median(last):.2f}×" if last else ""
        cells.append(f"{digits(statistics.median(values))} ({digits(min(values))}–{digits(max(values))}){ratio}")
    foreign = max((share for values in turns.values() for _, share in values), default=0)
    return cells + [f"{100 * max(foreign, 0):.0f} %"]


def memory(specs, workload, options):
    """Peak over the steps of a fresh program, above what it had when it was ready."""
    cells = []
    for spec in specs:
        program = Program(spec, options.threads)
        at_start = program.status("VmRSS")
        answer = program.run(workload, 0)
        Path(f"/proc/{program.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        cells.append("–")
        if answer:
            program.run(workload, options.seconds)
            cells[-1] = digits(program.status("VmHWM") - at_start)
        program.stop()
    return cells


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    options = arguments()
    programs = [Program(spec, options.threads) for spec in options.program]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    print(f"{processor()}, {os.cpu_count()} processors, {options.threads} thread(s), commit {commit or 'unknown'}")
    print("".join(f"\n- {program.name}: {program.ready}" for program in programs))
    what = "MiB" if options.memory else f"ms per step, {options.rounds} rounds"
    columns = [program.name for program in programs] + ([] if options.memory else ["others"])
    print(f"\n| {what} | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for workload in options.workloads.split(","):
        row = memory(options.program, workload, options) if options.memory else times(programs, workload, options)
        print(f"| {workload} | {' | '.join(row)} |", flush=True)
    for program in programs:
        program.stop()


main()
