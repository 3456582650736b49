//! The measured processes.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{self, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The line that a process prints once it serves.
pub(crate) const READY: &str = "READY";

/// Maximum time of a process to end after the request to shut down.
const FAREWELL: Duration = Duration::from_secs(10);

/// A process that serves until its standard input closes; dropping it kills the process by its id.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: process::Child,
}

/// The resident memory of a process, in megabytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

impl Child {
    /// Starts `command` and waits, for at most `limit`, until it is [`READY`].
    pub(crate) fn start(name: &str, mut command: Command, limit: Duration) -> Result<Self, Box<dyn Error>> {
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let process = process.map_err(|error| format!("{name} does not start: {error}"))?;
        let mut child = Self { name: name.to_owned(), process };
        let stdout = child.process.stdout.take().ok_or("a child has no standard output")?;
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            if lines.any(|line| line == READY) {
                let _ = said.send(());
            }
            // Keep reading: a process ends when it writes to a closed pipe.
            lines.for_each(drop);
        });
        match heard.recv_timeout(limit) {
            Ok(()) => Ok(child),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("{name} was not ready after {limit:?}").into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!("{name} ended before it was ready").into()),
        }
    }

    /// Returns the CPU time of its threads.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        cpu_of(self.process.id()).map_err(|error| format!("{}: {error}", self.name).into())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let field = |name| kilobytes(&text, name).ok_or_else(|| format!("{} has no {name}", self.name));
        Ok(Memory { now: field("VmRSS:")? / 1_000.0, peak: field("VmHWM:")? / 1_000.0 })
    }

    /// Shuts it down gracefully, so that it writes its final output.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        drop(self.process.stdin.take());
        let give_up = Instant::now() + FAREWELL;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > give_up {
                return Err(format!("{} did not end and was killed", self.name).into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Returns the CPU time of the threads of a process.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, Box<dyn Error>> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that has ended since the folder was read has no such file.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    match nanos {
        0 => Err("it is gone, or this system does not count the CPU time of threads".into()),
        nanos => Ok(Duration::from_nanos(nanos)),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The standard library sends no signal to a process that has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads a line such as `VmRSS:     5324 kB` of /proc/PID/status, as bytes divided by 1,000.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1.024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_units_of_a_thousand() {
        let status = "Name:\tx\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1_024.0));
        assert_eq!(kilobytes(status, "VmHWM:"), Some(2_048.0));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_process_that_ends_unready_is_an_error_and_not_a_wait() {
        let error = Child::start("true", Command::new("true"), Duration::from_secs(20)).expect_err("no service");
        assert!(error.to_string().contains("before it was ready"), "{error}");
    }

    #[test]
    fn a_process_is_measured_and_ends_with_its_input() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo READY; cat"]);
        let child = Child::start("cat", command, Duration::from_secs(20)).expect("it starts");
        assert!(child.cpu().expect("it has used some") > Duration::ZERO);
        let memory = child.memory().expect("it has some");
        assert!(memory.now > 0.0 && memory.peak >= memory.now);
        child.stop().expect("it ends");
    }
}
