#!/usr/bin/env bash
# A sweep of twelve runs on a real Slurm of one node, started here; one of its jobs is preempted and goes on.
# Usage: slurm-test.sh [DIRECTORY OF THE BINARIES]   (default target/release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=$(realpath "${1:-target/release}")

for program in slurmctld slurmd munged sbatch; do
    if ! command -v "$program" >/dev/null && [[ ! -x /usr/sbin/$program ]]; then
        echo "skipped: there is no $program (Debian: apt-get install slurm-wlm munge)"
        exit 0
    fi
done
if ((EUID)); then
    echo "skipped: the daemons of Slurm are started as root, and this is not"
    exit 0
fi

work=$(mktemp -d)
export PATH=$PATH:/usr/sbin SLURM_CONF=$work/slurm.conf
munge_was_there=$(pgrep -x munged || true)
finish() {
    status=$?
    for daemon in slurmd slurmctld; do
        [[ -f $work/$daemon.pid ]] && kill "$(<"$work/$daemon.pid")" 2>/dev/null || true
    done
    [[ $munge_was_there ]] || pkill -x munged || true
    if ((status)); then
        tail -n 5 "$work"/*.log "$work"/runs/slurm/sweep/*.log 2>/dev/null || true
        echo "FAILED; everything is in $work" >&2
    else
        rm -rf "$work"
    fi
}
trap finish EXIT

node=$(hostname -s)
mkdir -p "$work"/{state,spool} /run/munge
chown munge:munge /run/munge
[[ $munge_was_there ]] || runuser -u munge -- "$(command -v munged)" --force
cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$node(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
MailProg=/bin/true
SchedulerParameters=sched_interval=1,requeue_setup_env_fail
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF
slurmctld -f "$SLURM_CONF"
sleep 1
slurmd -f "$SLURM_CONF"
for _ in {1..30}; do
    [[ $(sinfo -h -o %T -p low) == idle ]] && break
    sleep 1
done
sinfo -p low

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
