//! CPU time and memory of processes, from proc(5).

use std::time::Instant;

use anyhow::Context;

/// `USER_HZ`, the unit of times in `/proc/PID/stat`, on x86-64 and arm64.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the user and system time of all threads of a process since its start, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    cpu_of(&stat).with_context(|| path)
}

/// The second field of proc_pid_stat(5) is the command in parentheses, which may contain spaces. The
/// fields utime and stime are the 12th and 13th after it.
fn cpu_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Memory {
    /// The peak, `VmHWM`.
    pub(crate) peak_bytes: u64,
    /// The current size, `VmRSS`.
    pub(crate) bytes: u64,
}

/// Reads `/proc/PID/status`.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let of = |key: &str| kibibytes(&status, key).map(|kib| kib * 1024);
    Ok(Memory {
        peak_bytes: of("VmHWM:").context("no VmHWM")?,
        bytes: of("VmRSS:").context("no VmRSS")?,
    })
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Measures wall-clock and CPU time of a process since the construction of this value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuMeter {
    pid: u32,
    started: Instant,
    cpu_before: f64,
}

/// The result of a [`CpuMeter`].
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Usage {
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// CPU time of the process.
    pub(crate) cpu_seconds: f64,
}

impl CpuMeter {
    pub(crate) fn start(pid: u32) -> anyhow::Result<Self> {
        Ok(Self { pid, started: Instant::now(), cpu_before: cpu_seconds(pid)? })
    }

    /// Measures this process.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::start(std::process::id())
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let seconds = self.started.elapsed().as_secs_f64();
        Ok(Usage { seconds, cpu_seconds: cpu_seconds(self.pid)? - self.cpu_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_any_command_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 1 2 3 4 150 50 9 9 20 0 3 0 5 6 7";
        assert_eq!(cpu_of(stat), Some(2.0));
        assert_eq!(cpu_of("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.bytes > 0 && memory.peak_bytes >= memory.bytes);
    }
}
