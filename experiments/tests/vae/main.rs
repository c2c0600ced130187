//! The `vae` program as its users run it: options, exit codes, files, kills and resumes.
#[cfg(test)]
mod cli;
#[cfg(test)]
mod output;
#[cfg(all(test, unix))]
mod resume;
#[cfg(test)]
mod support;
