//! ClickHouse's HTTP interface over libchdb; see `devstack::embedded`.

use anyhow::{Context as _, bail};
use devstack::embedded::{Options, Server};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: devstack-clickhouse --lib PATH/libchdb.so --data DIR \
                     --listen ADDRESS:PORT [--connections N] [--mem-limit-mb N]";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
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

/// The reason without a backtrace: what fails here is the caller's or the machine's.
#[allow(clippy::print_stderr, reason = "a program's last words")]
fn complain(error: &anyhow::Error) {
    eprintln!("devstack-clickhouse: {error:#}");
}

/// Tells whoever started this process that it is ready, and where.
#[allow(clippy::print_stdout, reason = "the caller reads this line")]
fn announce(address: SocketAddr) {
    println!("listening {address}");
}

/// Ends the process without the library's exit handlers, which wait for the very statement that
/// does not end.
#[allow(unsafe_code)]
fn end_at_once() -> ! {
    // SAFETY: _exit has no preconditions. Acknowledged rows are on disk, as after a SIGKILL.
    unsafe { libc::_exit(1) }
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let (mut library, mut data, mut listen) = (None, None, None);
    let (mut connections, mut memory_limit_mb) = (8, 1024);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} has no value; {USAGE}"))?;
        let wrong = || format!("{name} {value} is not understood; {USAGE}");
        match name.as_str() {
            "--lib" => library = Some(PathBuf::from(value)),
            "--data" => data = Some(PathBuf::from(value)),
            "--listen" => listen = Some(value.parse().with_context(wrong)?),
            "--connections" => connections = value.parse().with_context(wrong)?,
            "--mem-limit-mb" => memory_limit_mb = value.parse().with_context(wrong)?,
            _ => bail!("{name} is not an option; {USAGE}"),
        }
    }
    Ok(Options {
        library: library.context(USAGE)?,
        data: data.context(USAGE)?,
        listen: listen.context(USAGE)?,
        connections,
        memory_limit_mb,
    })
}
