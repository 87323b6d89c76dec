//! Runs the server; see the crate's README.

use anyhow::{Context as _, bail};
use chdb::{Options, Server};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: chdb-server --lib PATH/libchdb.so --data DIR \
                     --listen ADDRESS:PORT [--connections N] [--mem-limit-mb N] \
                     [--user NAME:PASSWORD] [--config FILE]";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let server = Server::bind(options(std::env::args().skip(1))?).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    announce(server.address());
    let stopped = server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    if !stopped {
        end_at_once();
    }
    Ok(())
}

/// Prints the reason without a backtrace: the causes are wrong arguments or the machine.
#[allow(clippy::print_stderr, reason = "the error message of a program")]
fn print_error(error: &anyhow::Error) {
    eprintln!("chdb-server: {error:#}");
}

/// The parent process waits for this line.
#[allow(clippy::print_stdout, reason = "the parent process reads this line")]
fn announce(address: SocketAddr) {
    println!("listening {address}");
}

/// Ends the process without the exit handlers of the library, which would wait for the statement that
/// still runs.
#[allow(unsafe_code)]
fn end_at_once() -> ! {
    // SAFETY: _exit has no preconditions. Acknowledged rows are on disk.
    unsafe { libc::_exit(1) }
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let (mut library, mut data, mut listen) = (None, None, None);
    let (mut connections, mut memory_limit_mb, mut user, mut config) = (8, 6144, None, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} has no value; {USAGE}"))?;
        let wrong = || format!("the value of {name} is invalid: {value}; {USAGE}");
        match name.as_str() {
            "--lib" => library = Some(PathBuf::from(value)),
            "--data" => data = Some(PathBuf::from(value)),
            "--config" => config = Some(PathBuf::from(value)),
            "--listen" => listen = Some(value.parse().with_context(wrong)?),
            "--connections" => connections = value.parse().with_context(wrong)?,
            "--mem-limit-mb" => memory_limit_mb = value.parse().with_context(wrong)?,
            "--user" => {
                // The value is not repeated: it contains a password.
                let parts = value.split_once(':').context(USAGE)?;
                user = Some((parts.0.to_owned(), parts.1.to_owned()));
            }
            _ => bail!("there is no option {name}; {USAGE}"),
        }
    }
    Ok(Options {
        library: library.context(USAGE)?,
        data: data.context(USAGE)?,
        listen: listen.context(USAGE)?,
        connections,
        memory_limit_mb,
        user,
        config,
    })
}
