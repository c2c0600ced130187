#!/usr/bin/env bash
# Build the release binaries with CUDA on a machine with no GPU, no driver and no CUDA: dist/cuda/<binary>, stripped, each for
# machines with a GPU and without. Arguments are those of `cargo build`, such as `--bin vae`. Needs cargo, cc, python3 with pip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source .cargo/cuda/env.sh real
export CARGO_PROFILE_RELEASE_STRIP=symbols
# Across all crates at once: else the texts of candle's kernels are in the binary several times.
export CARGO_PROFILE_RELEASE_LTO=fat
cargo "${CARGO_CUDA[@]}" build --release --locked -p gumbel-experiments "${CUDA_TARGET[@]}" "$@"
mkdir -p dist/cuda
find "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release" -maxdepth 1 -type f -executable -exec cp {} dist/cuda/ \;
ls -l dist/cuda
