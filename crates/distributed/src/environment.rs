//! What a launcher says in the environment.
use crate::{Error, Result};

/// What a launcher says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The program that started it.
    pub launcher: &'static str,
    /// Number of this process, from 0.
    pub rank: usize,
    /// How many processes there are, at least 2.
    pub size: usize,
    /// Number of this process among those on this machine, which chooses its GPU.
    pub local_rank: usize,
}

/// Name of launchers that say nothing of themselves, such as `torchrun`.
pub(crate) const OTHER: &str = "a launcher";

/// Launchers with their variables for rank, size, and rank on this machine. Those of the innermost one come first: Slurm's are also
/// there where `mpirun` runs within a job.
const LAUNCHERS: [(&str, [&str; 3]); 3] = [
    ("mpirun", ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"]),
    (OTHER, ["RANK", "WORLD_SIZE", "LOCAL_RANK"]),
    // Of a step of a job: the script of a job with many tasks is itself one process.
    ("srun", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"]),
];

/// Finds this process among those that a launcher started, by the variables that `value` looks up; none where it is alone.
///
/// # Errors
/// If a variable is not the number that it should be.
pub fn launched(value: impl Fn(&str) -> Option<String>) -> Result<Option<Launched>> {
    let number = |name: &'static str| -> Result<Option<usize>> {
        let Some(value) = value(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| Error::Environment { name, value })
    };
    for (launcher, [rank, size, local_rank]) in LAUNCHERS {
        let (Some(number_of_ranks), Some(of_this)) = (number(size)?, number(rank)?) else {
            continue;
        };
        if of_this >= number_of_ranks {
            return Err(Error::Environment { name: rank, value: of_this.to_string() });
        }
        if number_of_ranks > 1 {
            let local_rank = number(local_rank)?.unwrap_or(0);
            return Ok(Some(Launched {
                launcher,
                rank: of_this,
                size: number_of_ranks,
                local_rank,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<Launched>> {
        let value = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        launched(value)
    }

    #[test]
    fn each_launcher_is_understood() {
        assert_eq!(found(&[]).unwrap(), None);
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        let one = found(&mpirun).unwrap().unwrap();
        assert_eq!(one, Launched { launcher: "mpirun", rank: 1, size: 4, local_rank: 1 });
        let torch =
            found(&[("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")]).unwrap().unwrap();
        assert_eq!((torch.rank, torch.size, torch.local_rank), (5, 8, 1));
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_LOCALID", "0")];
        assert_eq!(found(&slurm).unwrap().unwrap().launcher, "srun");
        let both = [slurm.as_slice(), mpirun.as_slice()].concat();
        assert_eq!(found(&both).unwrap().unwrap().size, 4);
    }

    #[test]
    fn the_script_of_a_job_and_a_world_of_one_are_alone() {
        for alone in [
            [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")],
            [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1")],
            [("RANK", "0"), ("WORLD_SIZE", "1")],
            [("RANK", "3"), ("OTHER", "4")],
        ] {
            assert_eq!(found(&alone).unwrap(), None, "{alone:?}");
        }
    }

    #[test]
    fn what_is_no_rank_is_an_error_with_its_variable() {
        for (wrong, name) in [
            ([("RANK", "x"), ("WORLD_SIZE", "2")], "RANK is `x`"),
            ([("RANK", "2"), ("WORLD_SIZE", "2")], "RANK is `2`"),
            ([("RANK", "0"), ("WORLD_SIZE", "-1")], "WORLD_SIZE is `-1`"),
        ] {
            let error = found(&wrong).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
