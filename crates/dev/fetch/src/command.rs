//! Programs that run to their end, with their output in a log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

const POLL: Duration = Duration::from_millis(100);

/// Runs a program to its end and calls `tick` every tenth of a second. Standard output and error are
/// appended to `log`. The program's standard input is `input`: with a lock file there, the lock is
/// held until this process and the program have both ended, even if one of them is killed.
///
/// # Errors
/// [`Error::CommandFailed`] if the program fails or runs for longer than `patience`,
/// [`Error::Spawn`] if it cannot be started, [`Error::Io`] if the log cannot be written.
pub fn run(
    mut command: Command,
    input: Stdio,
    log: &Path,
    patience: Duration,
    mut tick: impl FnMut(),
) -> Result<(), Error> {
    let line = command_line(&command);
    let open = || Error::io(format!("open {}", log.display()));
    let out = File::options().create(true).append(true).open(log).map_err(open())?;
    let err = out.try_clone().map_err(open())?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(input)
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|source| Error::Spawn { program, source })?;
    let deadline = Instant::now() + patience;
    let outcome = loop {
        match child.try_wait().map_err(Error::io(format!("wait for `{line}`")))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break status.to_string(),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break format!("still running after {patience:?}");
            }
            None => {
                tick();
                thread::sleep(POLL);
            }
        }
    };
    Err(Error::CommandFailed { command: line, outcome, tail: tail(log, 20) })
}

/// Returns the program and its arguments, separated by spaces.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns the last `lines` lines of a log without the frames of Java stack traces, which would
/// displace the messages. Returns an empty text if the log cannot be read.
pub fn tail(log: &Path, lines: usize) -> String {
    const LONGEST: u64 = 64 * 1024;
    let length = std::fs::metadata(log).map_or(0, |about| about.len());
    let end = read_from(log, length.saturating_sub(LONGEST)).unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let all: Vec<&str> = text.lines().filter(|line| !line.starts_with("\tat ")).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn read_from(log: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
