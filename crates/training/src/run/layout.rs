//! Names of what is in a run directory.

/// The configuration of a run.
pub(crate) const CONFIG: &str = "config.toml";
pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const ENVIRONMENT: &str = "env.json";
/// Start of the names of the environments of later sessions.
pub(super) const LATER_ENVIRONMENT: &str = "env-resume-";
pub(super) const LOCK: &str = "LOCK";
pub(super) const LOG: &str = "log.txt";
pub(super) const PATCH: &str = "source.patch";
pub(super) const METRICS: &str = "metrics.jsonl";
pub(super) const SAMPLES: &str = "samples";
pub(super) const STATUS: &str = "STATUS";
pub(super) const TENSORBOARD: &str = "tb";
pub(super) const TIMING: &str = "timing.jsonl";

/// What a run of one session has.
pub(super) const OURS: [&str; 11] = [
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    LOCK,
    LOG,
    METRICS,
    PATCH,
    SAMPLES,
    STATUS,
    TENSORBOARD,
    TIMING,
];

/// What a run that started from `--init` notes of it.
pub(crate) const INIT: &str = "init";

/// Whether the run writes a file of that name itself.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with(LATER_ENVIRONMENT)
}
