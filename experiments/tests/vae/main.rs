//! The `vae` program as its users run it: options, exit codes, files, kills and resumes.
#[cfg(test)]
mod cli;
#[cfg(test)]
mod output;
#[cfg(test)]
#[cfg(unix)]
mod resume;
#[cfg(test)]
mod support;
