//! The `vae` program: options, exit codes, files, resumes.
mod cli;
mod output;
#[cfg(unix)]
mod resume;
mod support;
