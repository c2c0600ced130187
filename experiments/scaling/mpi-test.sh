#!/usr/bin/env bash
# Two processes train one model, under mpirun and under Slurm: the same bytes as one process, all ended with one, going on by any number.
# Usage: mpi-test.sh [--install] [DIRECTORY OF THE BINARIES]   (built with --features mpi; --install gets the library where there is apt)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ ${1-} == --install ]]; then
    shift
    command -v mpirun >/dev/null || apt-get install -y --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev
fi
if ! command -v mpirun >/dev/null || ! command -v mpicc >/dev/null; then
    echo "skipped: there is no Open MPI (Debian: apt-get install libopenmpi-dev openmpi-bin libclang-dev, or just test-mpi --install)"
    exit 0
fi
if [[ ! ${1-} ]]; then
    cargo build --release --locked --features mpi -p gumbel-experiments --bin vae --bin lm
fi
bin=$(realpath "${1:-target/release}")

source experiments/sweep/one-node-slurm.sh
work=$(mktemp -d)
finish() {
    status=$?
    slurm_stop "$work"
    if ((status)); then
        echo "FAILED; everything is in $work" >&2
    else
        rm -rf "$work"
    fi
}
trap finish EXIT

# As root, and on fewer cores than processes: what tests in a container need.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
two=(mpirun --oversubscribe -np 2)
only() { echo "$1"/*/*; } # the one run below a directory
same() { # <a run> <another run>
    local file
    for file in metrics.jsonl checkpoints/step-*/model.safetensors checkpoints/step-*/optimizer.safetensors samples; do
        # shellcheck disable=SC2086
        (cd "$1" && sha256sum $(find $file -type f)) >"$work/sums"
        (cd "$2" && sha256sum --quiet --check "$work/sums")
    done
}

echo "== one process or two: the same bytes"
equal() { # <name> <program> <options...>
    local name=$1 program=$2
    shift 2
    set -- "$@" --steps 200 --checkpoint-every 100 --set train.micro_batches=4 --quiet
    "$bin/$program" --no-distributed "$@" --out "$work/$name/1" >/dev/null
    "${two[@]}" "$bin/$program" "$@" --out "$work/$name/2" >/dev/null
    same "$(only "$work/$name/1")" "$(only "$work/$name/2")"
    echo "$name: 200 steps, checkpoints, samples and metrics are equal"
}
small="--config experiments/reliability/vae.toml"
equal default vae
# Estimators that learn or keep something from step to step.
# shellcheck disable=SC2086
{
    equal nvil vae $small --set "estimator={method='nvil', hidden=5}"
    equal rebar vae $small --set "estimator={method='rebar', temperature=0.5}"
}
equal lm lm

echo "== one process is killed: all end, and another number of them goes on"
# shellcheck disable=SC2206
long=($small --set train.evaluate_every=1000 --set train.micro_batches=4 --steps 2000 --checkpoint-every 20 --quiet)
"${two[@]}" "$bin/vae" "${long[@]}" --out "$work/killed" >"$work/killed.log" 2>&1 &
launcher=$!
until compgen -G "$work/killed/vae/*/checkpoints/step-*" >/dev/null; do sleep 0.1; done
start=$SECONDS
mapfile -t both < <(pgrep -P "$launcher" -x vae)
[[ ${#both[@]} == 2 ]]
kill -9 "${both[1]}"
if wait "$launcher"; then exit 1; fi
for process in "${both[@]}"; do
    # Gone, or dead and not yet buried.
    until [[ $(ps -o stat= -p "$process") =~ ^(Z|$) ]]; do
        ((SECONDS - start <= 30)) || exit 1
        sleep 0.1
    done
done
echo "all ended within $((SECONDS - start)) s; the checkpoint is $(ls "$(only "$work/killed")/checkpoints")"
"$bin/vae" --no-distributed --quiet --resume "$(only "$work/killed")" >/dev/null
"$bin/vae" --no-distributed "${long[@]}" --out "$work/alone" >/dev/null
same "$(only "$work/alone")" "$(only "$work/killed")"
echo "resumed by one process, it has the bytes of an undisturbed run"

echo "== one is asked to stop: both do, with a checkpoint and exit code 75"
"${two[@]}" "$bin/vae" "${long[@]}" --out "$work/asked" >"$work/asked.log" 2>&1 &
launcher=$!
until compgen -G "$work/asked/vae/*/checkpoints/step-*" >/dev/null; do sleep 0.1; done
kill -USR1 "$(pgrep -P "$launcher" -x vae | tail -n 1)"
code=0
wait "$launcher" || code=$?
[[ $code == 75 ]] || { cat "$work/asked.log"; exit 1; }
cat "$(only "$work/asked")/STATUS"
"${two[@]}" "$bin/vae" --quiet --resume "$(only "$work/asked")" >/dev/null
same "$(only "$work/alone")" "$(only "$work/asked")"
echo "resumed by two processes, it has the bytes of an undisturbed run"

echo "== Slurm starts the processes"
missing=$(slurm_missing)
if [[ $missing ]]; then
    echo "skipped: $missing"
    exit 0
fi
slurm_start "$work" "main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
srun --mpi=pmix -n 2 "$bin/vae" "${long[@]}" --out "$work/slurm" >/dev/null
same "$(only "$work/alone")" "$(only "$work/slurm")"
echo "ok: srun --mpi=pmix -n 2 gives the same bytes, too"
