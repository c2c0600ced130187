//! What a launcher says in the environment.
use crate::{Error, Result};

/// What a launcher says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launched {
    /// The program that started it.
    pub launcher: &'static str,
    /// Number of this process, from 0.
    pub rank: usize,
    /// How many processes there are, at least 2.
    pub size: usize,
    /// Number of this process among those on this machine.
    pub local_rank: usize,
}

impl Launched {
    /// Number of this process's GPU among the `visible` ones, a list as in `CUDA_VISIBLE_DEVICES`; none: all of its machine.
    #[must_use]
    pub fn gpu(&self, visible: Option<&str>) -> usize {
        // A launcher may show each process its own GPU alone.
        match visible.map(|list| list.split(',').filter(|one| !one.trim().is_empty()).count()) {
            None | Some(0) => self.local_rank,
            Some(count) => self.local_rank % count,
        }
    }
}

/// Name of launchers that say nothing of themselves, such as `torchrun`.
pub(crate) const OTHER: &str = "a launcher";

/// Launchers with their variables for rank, size, and rank on this machine. Those of the innermost one come first: Slurm's are also
/// there where `mpirun` runs within a job.
const LAUNCHERS: [(&str, [&str; 3]); 4] = [
    ("mpirun", ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"]),
    ("mpiexec", ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"]),
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
        let Some(number_of_ranks) = number(size)? else { continue };
        let Some(of_this) = number(rank)? else { continue };
        if number_of_ranks == 1 {
            return Ok(None);
        }
        if of_this >= number_of_ranks {
            return Err(Error::Environment { name: rank, value: of_this.to_string() });
        }
        let local_rank = number(local_rank)?.unwrap_or(0);
        return Ok(Some(Launched { launcher, rank: of_this, size: number_of_ranks, local_rank }));
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
            [("RANK", "x"), ("OTHER", "4")],
        ] {
            assert_eq!(found(&alone).unwrap(), None, "{alone:?}");
        }
        // One process under mpirun in a step of many.
        let inner = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")];
        let outer = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2")];
        assert_eq!(found(&[inner, outer].concat()).unwrap(), None);
    }

    #[test]
    fn a_process_has_the_gpu_of_its_rank_among_those_it_sees() {
        let third = Launched { launcher: OTHER, rank: 7, size: 8, local_rank: 3 };
        let seen = [None, Some(""), Some("0,1,2,3"), Some("5"), Some("0,1")];
        assert_eq!(seen.map(|visible| third.gpu(visible)), [3, 3, 3, 0, 1]);
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
