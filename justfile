# Thin names for commands that work without just, too.
set positional-arguments

# List the recipes
_default:
    @just --list --unsorted

# Train a VAE with discrete latents; `just run-vae --help` has the options
run-vae *ARGS:
    cargo run --release --locked --bin vae -- "$@"

# Train a network of discrete units to complete images; `just run-predict --help` has the options
run-predict *ARGS:
    cargo run --release --locked --bin predict -- "$@"

# Train a classifier with few labels; `just run-semi --help` has the options
run-semi *ARGS:
    cargo run --release --locked --bin semi -- "$@"

# Train a language model with discrete latents; `just run-lm --help` has the options
run-lm *ARGS:
    cargo run --release --locked --bin lm -- "$@"

# Run all tests; no network, no files
test *ARGS:
    cargo test --workspace --locked "$@"

# Measure bias and variance of every estimator; writes docs/results/estimators.md
lab *ARGS:
    cargo run --release --locked --bin lab -- "$@"

# Measure what the temperature does to gradients and to trained models; `--budget cpu` writes docs/results/temperature.md
run-temperature *ARGS:
    cargo run --release --locked --bin temperature -- "$@"

# Run the cells of a published table and write the result beside it; `just reproduce` lists the tables
reproduce *ARGS:
    cargo build --release --locked --bin vae --bin predict --bin semi --bin lm --bin reproduce
    cargo run --release --locked --bin reproduce -- "$@"

# Run a grid of configurations times seeds: `just sweep run experiments/sweep/temperature.toml`
sweep *ARGS:
    cargo build --release --locked --bin vae --bin predict --bin semi --bin lm --bin sweep
    cargo run --release --locked --bin sweep -- "$@"

# Test what is put into repositories of a hub; 148 crates more
test-hub:
    cargo test -p gumbel-hub --features push --locked

# Prove a sweep on a real Slurm of one node, with a preempted job (needs root, and Debian's slurm-wlm and munge)
test-slurm:
    cargo build --release --locked --bin vae --bin sweep
    bash experiments/sweep/slurm-test.sh target/release

# Prove training by several processes under mpirun and Slurm; `just test-mpi --install` gets Debian's Open MPI first
test-mpi *ARGS:
    bash experiments/scaling/mpi-test.sh "$@"

# Measure how cost grows with categories, variables, samples, batch and processes; writes docs/results/scaling.md (needs Open MPI)
scaling *ARGS:
    cargo build --release --locked -p gumbel-experiments --features mpi --bin vae --bin lm --bin scaling
    target/release/scaling "$@"

# Time every operation beside its twin and the limits of the machine; `just bench --help` has the options
bench *ARGS:
    cargo run --release --locked --bin bench -- "$@"

# List, show, compare, export and watch runs: `just runs compare runs/vae`
runs *ARGS:
    cargo run --release --locked --bin runs -- "$@"

# List, check and fetch data sets: `just data fetch mnist`
data *ARGS:
    cargo run --release --locked --bin data -- "$@"

# Compare instruction counts with experiments/bench/instructions.txt; `--update` writes it anew (needs valgrind)
instructions *ARGS:
    cargo run --release --locked --bin bench -- --instructions experiments/bench/instructions.txt "$@"

# Check formatting and lints; warnings are errors
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Write down what each library offers, after a change that is meant; look at the difference
api:
    cargo fetch --locked
    GUMBEL_API_WRITE=1 cargo test -p gumbel-conformance --locked --test api

# Build the documentation, formulas set; warnings are errors
doc *ARGS:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked "$@"
    cargo run --locked -p gumbel-formulas -- "${CARGO_TARGET_DIR:-target}/doc"

# Hold a device against the processor, operation by operation: `just device-check --device cuda:0`
device-check *ARGS:
    cargo run --release --locked --bin device-check -- "$@"

# Build the binaries for NVIDIA GPUs and machines without, into dist/cuda; no GPU and no CUDA needed (Linux x86-64)
build-cuda *ARGS:
    bash .cargo/cuda/build.sh "$@"

# On a machine with a GPU: hold it against the processor, train, resume; writes gpu-report/report.md (after build-cuda)
gpu-report *ARGS:
    bash .cargo/cuda/report.sh "$@"

# Check lints with CUDA switched on; nothing of CUDA needed
check-cuda:
    bash -c 'source .cargo/cuda/env.sh stub && cargo "${CARGO_CUDA[@]}" clippy --workspace --all-targets --locked "${CUDA_TARGET[@]}" -- -D warnings'

# Run the tests with CUDA switched on, on the processor; nothing of CUDA needed
test-cuda *ARGS:
    bash -c 'source .cargo/cuda/env.sh stub && cargo "${CARGO_CUDA[@]}" test --locked "${CUDA_TARGET[@]}" "$@"' test "$@"

# Check the libraries' code for Apple GPUs, on any machine (needs `rustup target add aarch64-apple-darwin`); programs need a Mac's C compiler
check-metal:
    cargo clippy -p gumbel-kernels -p gumbel -p gumbel-models -p gumbel-training --locked --features gumbel-training/metal --target aarch64-apple-darwin -- -D warnings

# Make the packages of the libraries, and build each from nothing but its package
package *ARGS:
    cargo package --workspace --exclude gumbel-conformance --exclude gumbel-formulas --exclude gumbel-hostile --exclude gumbel-experiments --locked "$@"

# Check licences, sources and banned crates (needs cargo-deny)
deny:
    cargo deny --locked --config .cargo/deny.toml check bans licenses sources

# Run the unsafe code of the kernels under Miri (needs `rustup +nightly component add miri rust-src`)
miri:
    MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation" cargo +nightly miri test -p gumbel-kernels --lib --locked -- allocator:: rows:: reduce:: philox:: one_hot:: vectorised logistic::tests::nothing_overflows log_softmax::tests::extreme

# Do to the programs what the world does to them, and print which promises they keep; `--quick` takes a minute
reliability *ARGS:
    cargo build --release --locked --bin vae --bin lm --bin reliability
    cargo run --release --locked --bin reliability -- "$@"

# Let a fuzzer look for files that bring a reader down: `just fuzz idx-images -max_total_time=3600` (needs a nightly compiler and cargo-fuzz)
fuzz FORMAT *ARGS:
    mkdir -p fuzz/corpus/{{FORMAT}}
    cargo +nightly fuzz run {{FORMAT}} fuzz/corpus/{{FORMAT}} crates/hostile/seeds/{{FORMAT}} -- "${@:2}"

# Make mistakes in readers and checkpoints on purpose, and count those that no test notices (needs cargo-mutants; hours)
mutants *ARGS:
    cargo mutants --config .cargo/mutants.toml "$@"

# Everything that has to pass before a change is done
ready:
    bash .ci/run
