//! The command line, and what a shell completes of it.
use std::io::Write;

use clap::{CommandFactory, Parser};
use clap_complete::{Shell, generate};

/// The options of the program, in place of `Args::parse()`; with `completions SHELL` as its only arguments, prints what the shell
/// (`bash`, `zsh`, `fish`, `elvish` or `powershell`) reads to complete them, and ends.
///
/// Ends the program with exit code 2 and a message where the options are wrong.
#[must_use]
pub fn parse<A: Parser>() -> A {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match &args[..] {
        [command, shell] if command == "completions" => match script::<A>(shell) {
            Ok(script) => {
                // A reader that has gone away needs no script.
                let _ = std::io::stdout().write_all(&script);
                std::process::exit(0)
            }
            Err(message) => {
                A::command().error(clap::error::ErrorKind::InvalidValue, message).exit()
            }
        },
        _ => A::parse(),
    }
}

fn script<A: CommandFactory>(shell: &str) -> Result<Vec<u8>, String> {
    let shell: Shell = shell
        .parse()
        .map_err(|_| format!("{shell:?} is no shell; use bash, zsh, fish, elvish or powershell"))?;
    let mut command = A::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "toy")]
    struct Args {
        #[command(flatten)]
        _run: crate::RunArgs,
    }

    #[test]
    fn every_shell_has_a_script_that_knows_the_options() {
        for shell in ["bash", "zsh", "fish"] {
            let text = String::from_utf8(script::<Args>(shell).unwrap()).unwrap();
            assert!(text.contains("toy") && text.contains("checkpoint-every"), "{shell}");
        }
        assert!(script::<Args>("cmd").unwrap_err().contains("bash, zsh"));
    }
}
