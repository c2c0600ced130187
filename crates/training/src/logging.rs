//! Messages: for a person on standard error, and all of them in `log.txt` of the run.
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::progress;

/// Room for messages that come before there is a run directory, in bytes.
const EARLY: usize = 1 << 20;

/// Where messages for `log.txt` go.
static SINK: Mutex<Sink> = Mutex::new(Sink::Early(Vec::new()));

enum Sink {
    Early(Vec<u8>),
    File(File),
}

/// Starts the messages of this process; only the first call has an effect.
///
/// Standard error shows `info` and above (`quiet`: warnings and errors; `verbose`: `debug` and above),
/// or what `RUST_LOG` says, in colour on a terminal unless `NO_COLOR` is set. `log.txt` of the run has
/// everything from `debug` on, with the time, messages from before the run included.
pub fn init(quiet: bool, verbose: bool) {
    init_from(match (quiet, verbose) {
        (true, _) => LevelFilter::WARN,
        (_, true) => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    });
}

/// The same for a process that helps another one, which says all that both would say: nothing but errors.
pub(crate) fn init_helper() {
    init_from(LevelFilter::ERROR);
}

fn init_from(level: LevelFilter) {
    // A subscriber that is set already is the caller's choice.
    let _ = subscriber(level).try_init();
}

fn subscriber(level: LevelFilter) -> impl Subscriber + Send + Sync {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let person = tracing_subscriber::fmt::layer()
        .event_format(Plain)
        .with_ansi(io::stderr().is_terminal() && !plain)
        .with_writer(|| Person)
        .with_filter(filter);
    let file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(|| LogFile)
        .with_filter(LevelFilter::DEBUG);
    tracing_subscriber::registry().with(person).with(file)
}

/// Sends messages to this file from now on, those kept so far first.
pub(crate) fn attach(mut file: File) -> io::Result<()> {
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Sink::Early(bytes) = &*sink {
        file.write_all(bytes)?;
    }
    *sink = Sink::File(file);
    Ok(())
}

/// Standard error, above the progress bar if there is one.
struct Person;

impl Write for Person {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::above_bar(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *SINK.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::File(file) => file.write(bytes),
            Sink::Early(early) => {
                if early.len() + bytes.len() <= EARLY {
                    early.extend(bytes);
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message alone; warnings and errors say that they are.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "31"),
            Level::WARN => ("warning: ", "33"),
            Level::INFO => ("", ""),
            _ => ("debug: ", "2"),
        };
        if writer.has_ansi_escapes() && !word.is_empty() {
            write!(writer, "\u{1b}[{colour}m{word}\u{1b}[0m")?;
        } else {
            writer.write_str(word)?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test that touches the one sink of the process.
    #[test]
    fn the_file_has_debug_messages_and_those_from_before_it_existed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.txt");
        tracing::subscriber::with_default(subscriber(LevelFilter::WARN), || {
            tracing::debug!(step = 3, "before");
            attach(File::create(&path).unwrap()).unwrap();
            tracing::info!("after");
            tracing::trace!("too small");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|l| !l.contains("too small")).collect();
        assert!(lines.iter().any(|l| l.contains("DEBUG before step=3")), "{text}");
        assert!(lines.iter().any(|l| l.contains("INFO after")), "{text}");
        assert!(!text.contains("too small") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_person_sees_the_message_and_how_grave_it_is() {
        #[derive(Clone, Default)]
        struct Buffer(std::sync::Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (ansi, warning) in
            [(false, "warning: odd\n"), (true, "\u{1b}[33mwarning: \u{1b}[0modd\n")]
        {
            let buffer = Buffer::default();
            let writer = buffer.clone();
            let layer = tracing_subscriber::fmt::layer()
                .event_format(Plain)
                .with_ansi(ansi)
                .with_writer(move || writer.clone());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::info!("device: cpu");
                tracing::warn!("odd");
            });
            let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text, format!("device: cpu\n{warning}"));
        }
    }
}
