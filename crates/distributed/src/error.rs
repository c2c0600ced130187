//! What can go wrong between ranks.
use candle_core::DType;

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The launcher started several processes, and this one cannot talk to the others.
    #[error(
        "{launcher} started {size} processes of which this is number {rank}, and this build cannot connect them; build it with --features mpi, \
         or let each be alone with --no-distributed"
    )]
    NotBuilt {
        /// The program that started them.
        launcher: &'static str,
        /// Number of this process.
        rank: usize,
        /// How many there are.
        size: usize,
    },
    /// The engine did not connect what the launcher started.
    #[error(
        "{launcher} started {size} processes, but MPI connects {found}; start them with the mpirun of the MPI that this was built with, or \
         with srun --mpi=pmix"
    )]
    NotConnected {
        /// The program that started them.
        launcher: &'static str,
        /// How many it started.
        size: usize,
        /// How many found one another.
        found: usize,
    },
    /// A number in the launcher's environment that is none.
    #[error(
        "the environment variable {name} is `{value}`; it has to be a number, with the rank below the number of ranks"
    )]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The engine does not start, or fails.
    #[error("the processes cannot be connected: {0}")]
    Engine(String),
    /// A tensor of a type that is not sent.
    #[error("tensors between processes are of type F32 or F64, not {0:?}")]
    Type(DType),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
