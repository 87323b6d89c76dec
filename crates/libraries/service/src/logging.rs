use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::{LogFormat, ServiceSettings};

/// Starts the log on standard error. Only the first call of a process has an effect, so tests may
/// start several services.
///
/// # Errors
/// When `service.log` is not a filter.
pub fn init(settings: &ServiceSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log).with_context(|| {
        format!(
            "`service.log` cannot be read as a filter: `{}`; write a level such as info, or \
             info,stream=debug",
            settings.log
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Said where the line could not be written, by a macro that panics if it cannot either: a
        // log on a full disk would take down whoever logs.
        .log_internal_errors(false);
    // The error of a second call is that there is a log already.
    let _ = match settings.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}
