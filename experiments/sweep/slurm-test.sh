#!/usr/bin/env bash
# A sweep of twelve runs on a real Slurm of one node, started here; one of its jobs is preempted and goes on.
# Usage: slurm-test.sh [DIRECTORY OF THE BINARIES]   (default target/release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=$(realpath "${1:-target/release}")

source experiments/sweep/one-node-slurm.sh
missing=$(slurm_missing)
if [[ $missing ]]; then
    echo "skipped: $missing"
    exit 0
fi

work=$(mktemp -d)
finish() {
    status=$?
    slurm_stop "$work"
    if ((status)); then
        tail -n 5 "$work"/*.log "$work"/runs/slurm/sweep/*.log 2>/dev/null || true
        echo "FAILED; everything is in $work" >&2
    else
        rm -rf "$work"
    fi
}
trap finish EXIT

slurm_start "$work" \
    "low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP" \
    "high Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP"

cat >"$work/sweep.toml" <<SWEEP
program = "$bin/vae"
seeds = 3
set = ["train.steps=1200", "train.log_every=50", "train.evaluate_every=600", "train.checkpoint_every=50", "evaluation.final_samples=10"]
[grid]
"estimator.method" = ["gumbel-softmax", "straight-through-gumbel-softmax"]
"estimator.temperature" = [0.5, 1.0]
SWEEP
sweep() { "$bin/sweep" "$@"; }
sweep slurm "$work/sweep.toml" --out "$work/runs" --submit -- --cpus-per-task=1 --time=1:00:00

# Once one of the first two has a checkpoint, a job of the other partition takes the whole node.
for _ in {1..600}; do
    compgen -G "$work/runs/vae/*/checkpoints/step-*" >/dev/null && break
    sleep 0.1
done
compgen -G "$work/runs/vae/*/checkpoints/step-*" >/dev/null
echo "a job with priority takes the node"
sbatch --partition=high --exclusive --job-name=priority --output="$work/priority.log" --wrap "sleep 2" >/dev/null

# A job that was put back waits for two minutes unless it is told not to.
for _ in {1..900}; do
    [[ $(squeue -h -r | wc -l) == 0 ]] && break
    for job in $(squeue -h -r -t PENDING -O JobID,ArrayJobID,ArrayTaskID,Reason:30 | awk '$4 == "BeginTime" { print $2 "_" $3 }'); do
        scontrol update "JobId=$job" StartTime=now 2>/dev/null || true
    done
    sleep 1
done

sweep status "$work/sweep.toml" --out "$work/runs"
sweep status "$work/sweep.toml" --out "$work/runs" | grep -q "12 of 12 runs are done"
sweep collect "$work/sweep.toml" --out "$work/runs"
[[ $(grep -c ",done," "$work/runs/sweeps/sweep/runs.csv") == 12 ]]

# Those that were preempted went on, and came to what an undisturbed run comes to, byte for byte.
resumed=("$work"/runs/vae/*/env-resume-1.json)
echo "${#resumed[@]} jobs were preempted and went on"
[[ -f ${resumed[0]} ]]
run=$(dirname "${resumed[0]}")
index=$(awk -F, -v run="$run" '$NF == run { print $1 }' "$work/runs/sweeps/sweep/runs.csv")
grep -h "stopped by\|resumed" "$run/log.txt"
"$bin/sweep" run "$work/sweep.toml" --index "$index" --out "$work/alone" 2>/dev/null
cmp "$run/metrics.jsonl" "$work"/alone/vae/*/metrics.jsonl
echo "ok: case $index went on from its checkpoint to the same metrics, byte for byte"
