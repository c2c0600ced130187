# A Slurm of one node on this machine, for tests that source this: `slurm_missing` says what there is not, `slurm_start WORK PARTITION...`
# starts the daemons with their files in WORK, `slurm_stop WORK` ends them.
export PATH=$PATH:/usr/sbin

slurm_missing() {
    local program
    for program in slurmctld slurmd munged sbatch; do
        if ! command -v "$program" >/dev/null; then
            echo "there is no $program (Debian: apt-get install slurm-wlm munge)"
            return
        fi
    done
    if ((EUID)); then
        echo "the daemons of Slurm are started as root, and this is not"
    fi
}

slurm_start() { # <directory> <lines of partitions...>
    local work=$1 node
    shift
    export SLURM_CONF=$work/slurm.conf
    node=$(hostname -s)
    mkdir -p "$work"/{state,spool} /run/munge
    chown munge:munge /run/munge
    if ! pgrep -x munged >/dev/null; then
        runuser -u munge -- "$(command -v munged)" --force
        munge_is_ours=1
    fi
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
$(printf 'PartitionName=%s\n' "$@")
CONF
    slurmctld -f "$SLURM_CONF"
    sleep 1
    slurmd -f "$SLURM_CONF"
    for _ in {1..30}; do
        [[ $(sinfo -h -o %T | sort -u) == idle ]] && break
        sleep 1
    done
    sinfo
}

slurm_stop() { # <directory>
    local daemon
    for daemon in slurmd slurmctld; do
        [[ -f $1/$daemon.pid ]] && kill "$(<"$1/$daemon.pid")" 2>/dev/null || true
    done
    [[ ! ${munge_is_ours-} ]] || pkill -x munged || true
}
