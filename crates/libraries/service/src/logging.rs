use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::{LogFormat, ServiceSettings};

/// Starts the log on standard error. Only the first call in a process has an effect, so that a test
/// can start several services.
///
/// # Errors
/// Fails if `service.log` is not a filter.
pub fn init(settings: &ServiceSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log).with_context(|| {
        format!(
            "`service.log` cannot be read as a filter: `{}`; write a level such as info, or \
             info,kafka=debug",
            settings.log
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Otherwise a line that cannot be written is reported with `eprintln!`, which panics if
        // standard error is on a full disk, in the thread that logs.
        .log_internal_errors(false);
    // The only error is that the process has a log already.
    let _ = match settings.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Writes panics to the log, so that they have its format and its fields.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        location = panic.location().map(tracing::field::display),
        panic = panic.payload_as_str().unwrap_or("the payload is not text"),
        backtrace = has_backtrace.then(|| tracing::field::display(&backtrace)),
        "thread panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let mut file = tempfile::tempfile().unwrap();
        let writer: Arc<File> = Arc::new(file.try_clone().unwrap());
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(writer).finish();
        let hook = std::panic::take_hook();
        log_panics();
        let result = tracing::subscriber::with_default(log, || {
            std::panic::catch_unwind(|| panic!("number {}", 7))
        });
        std::panic::set_hook(hook);
        assert!(result.is_err());

        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "thread panicked");
        assert_eq!(line["panic"], "number 7");
        assert!(line["location"].as_str().unwrap().contains("logging.rs"), "{line}");
    }
}
