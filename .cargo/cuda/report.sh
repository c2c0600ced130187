#!/usr/bin/env bash
# What a GPU does with the binaries of dist/cuda: bash .cargo/cuda/report.sh [DIRECTORY [DEVICE]]
# Writes DIRECTORY/report.md; the exit status is the number of sections that failed. About ten minutes; needs the NVIDIA driver
# and CUDA's libraries, no compiler and no network.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:-gpu-report} device=${2:-cuda:0}
mkdir -p "$out"
report=$out/report.md
failed=0
: > "$report"

run() { CUDA_WHICH=0 bash .cargo/cuda/run-on-gpu.sh "$@"; }

section() { # <title> <command...>
    local title=$1 start=$SECONDS status
    shift
    { echo "## $title"; echo '```'; } >> "$report"
    "$@" >> "$report" 2>&1
    status=$?
    { echo '```'; echo "exit $status, $((SECONDS - start)) s"; echo; } >> "$report"
    if ((status)); then failed=$((failed + 1)); fi
    echo "$title: exit $status"
}

memory() { nvidia-smi --query-gpu=name,driver_version,memory.used,memory.total --format=csv; }

# The same run, once as it is and once ended by a signal and resumed: the same last checkpoint, to the bit.
resume() {
    local options=(--device "$device" --quiet --set train.steps=3000 --set train.checkpoint_every=500 --set evaluation.final_samples=10)
    run dist/cuda/vae "${options[@]}" --out "$out/whole" || return 1
    timeout -s TERM 12 bash .cargo/cuda/run-on-gpu.sh dist/cuda/vae "${options[@]}" --out "$out/cut"
    local cut
    cut=$(ls -d "$out"/cut/vae/*/ | head -1)
    run dist/cuda/vae --device "$device" --quiet --resume "$cut" || return 1
    local sums
    sums=$(sha256sum "$out"/{whole,cut}/vae/*/checkpoints/step-3000/model.safetensors | cut -d' ' -f1 | uniq | wc -l)
    echo "different last checkpoints: $((sums - 1))"
    ((sums == 1))
}

# Whole training steps, in turns with PyTorch's where Python has it with CUDA; in single precision, then with products in bf16.
steps() {
    local ours="dist/cuda/bench --serve --device $device" theirs="python3 experiments/bench/peers_torch.py --device $device"
    if ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
        echo "no PyTorch with CUDA here; ours alone"
        printf '%s 2\n' W1 W2 W3a W3b W3c W4 | run $ours | python3 -c '
import json, statistics, sys
lines = list(map(json.loads, sys.stdin))
for line in lines:
    print(line.get("ready") or line.get("error") or (line["w"], "ms, median:", round(statistics.median(line["ms"]), 4)))
sys.exit(any("error" in line for line in lines))'
        return
    fi
    local compare=(python3 experiments/bench/compare.py --rounds 3 --threads "$(nproc)")
    run "${compare[@]}" --workloads W1,W2,W3a,W3b,W3c,W3ah,W3bh,W3ch,W4,ADAM,GUMBEL \
        --program "PyTorch eager=$theirs" --program "PyTorch fused=$theirs --mode fused" \
        --program "torch.compile=$theirs --mode compile" --program "CUDA graphs=$theirs --mode graphs" \
        --program "gumbel=$ours" || return 1
    run "${compare[@]}" --workloads W1,W4 --program "torch.compile bf16=$theirs --mode compile --bf16" \
        --program "CUDA graphs bf16=$theirs --mode graphs --bf16" --program "gumbel bf16=$ours --bf16"
}

section "Machine" memory
section "Device against processor" run dist/cuda/device-check --device "$device"
section "Training steps" steps
section "A VAE, 1000 steps" run dist/cuda/vae --device "$device" --out "$out/vae" --set train.steps=1000 --set evaluation.final_samples=10
section "A language model, 300 steps" run dist/cuda/lm --device "$device" --out "$out/lm" --steps 300
section "Resume" resume
section "Machine, afterwards" memory
exit "$failed"
