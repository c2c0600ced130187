//! What a run depends on beside its configuration: `env.json`.
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::utc::Utc;
use crate::world;

/// Most bytes of a patch that is kept.
const LARGEST_PATCH: usize = 1 << 20;

/// Program, machine and data of a run. What cannot be found out is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    version: String,
    /// The compiler of the program.
    #[serde(default)]
    rustc: String,
    /// What was built in beside the processor.
    #[serde(default)]
    features: Vec<String>,
    git_commit: Option<String>,
    git_dirty: Option<bool>,
    os: String,
    arch: String,
    cpu: Option<String>,
    cores: usize,
    threads: usize,
    /// Processes that train together.
    #[serde(default)]
    processes: usize,
    hostname: Option<String>,
    argv: Vec<String>,
    seed: u64,
    started: String,
    /// What the caller adds, such as names and sums of data sets.
    pub(crate) identity: BTreeMap<String, String>,
}

impl Environment {
    /// Commit and machine in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let commit = self
            .git_commit
            .as_deref()
            .map_or("unknown", |commit| commit.get(..10).unwrap_or(commit));
        let dirty = if self.git_dirty == Some(true) { " with changes" } else { "" };
        let cpu = self.cpu.as_deref().unwrap_or(&self.arch);
        format!("commit {commit}{dirty}, {} cores of {cpu}", self.cores)
    }

    /// That of this process, here and now.
    #[must_use]
    pub fn current(seed: u64, threads: usize) -> Self {
        let commit = git(&["rev-parse", "HEAD"]);
        let dirty = git(&["status", "--porcelain", "--untracked-files=no"]);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            rustc: env!("GUMBEL_RUSTC").into(),
            features: features(),
            git_dirty: commit.as_ref().and(dirty).map(|changes| !changes.is_empty()),
            git_commit: commit,
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            processes: world().size(),
            hostname: hostname(),
            argv: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            seed,
            started: Utc::now().rfc3339(),
            identity: BTreeMap::new(),
        }
    }

    /// What differs from the commit, as a patch; none where nothing does, or it is too much to keep.
    pub(crate) fn source_patch(&self) -> Option<Vec<u8>> {
        self.git_dirty.filter(|dirty| *dirty)?;
        let patch = output_of_git(&["diff", "--no-color", "--no-ext-diff", "--binary", "HEAD"])?;
        (!patch.is_empty() && patch.len() <= LARGEST_PATCH).then_some(patch)
    }

    /// As indented JSON with a line break at the end.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn features() -> Vec<String> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mpi", cfg!(feature = "mpi")),
        ("nccl", cfg!(feature = "nccl")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name.to_owned()).collect()
}

/// What git says in the current directory; none where there is no git or no repository.
fn git(args: &[&str]) -> Option<String> {
    let output = output_of_git(args)?;
    String::from_utf8(output).ok().map(|text| text.trim().to_owned())
}

fn output_of_git(args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(output.stdout)
}

fn hostname() -> Option<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel.or_else(|| std::env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned())
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_has_the_essentials() {
        let mut environment = Environment::current(7, 3);
        environment.identity.insert("mnist".into(), "sha256:00".into());
        let json = environment.to_json();
        assert_eq!(serde_json::from_slice::<Environment>(&json).unwrap(), environment);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&value["seed"], &value["threads"]), (&7.into(), &3.into()));
        assert_eq!(value["arch"], std::env::consts::ARCH);
        assert_eq!(value["identity"]["mnist"], "sha256:00");
        assert!(!value["argv"].as_array().unwrap().is_empty());
        assert!(value["rustc"].as_str().unwrap().starts_with("rustc 1."));
    }

    #[test]
    fn the_processor_is_the_first_model_name() {
        let text = "processor\t: 0\nmodel name\t: Fast: 9\nprocessor\t: 1\nmodel name\t: Slow\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Fast: 9"));
        assert_eq!(cpu_model("processor : 0"), None);
    }
}
