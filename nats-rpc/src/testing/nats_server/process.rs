use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Timeout for the system to end a process after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A running server that ends with the process that started it.
#[derive(Debug)]
pub(super) struct Process {
    server: Child,
    watchdog: Child,
}

impl Process {
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        // A process group of its own. Ctrl-C in a terminal signals the whole foreground group; it would end the server
        // before a program has shut down gracefully.
        let mut server = command.process_group(0).spawn()?;
        match watch(server.id()) {
            Ok(watchdog) => Ok(Self { server, watchdog }),
            Err(error) => {
                server.kill()?;
                server.wait()?;
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.server.try_wait().ok().flatten()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(pid(self.id())?, signal).map_err(io::Error::from)
    }

    /// Sends SIGSTOP, and waits until the server has stopped: the signal takes effect some time after it has been
    /// sent.
    pub(super) fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let server = WaitId::Pid(pid(self.id())?);
        // A server that has exited never stops; another function waits for it.
        let changed = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(server, changed)?;
        Ok(())
    }

    /// Sends SIGTERM, and SIGKILL if the server still runs after `limit`.
    pub(super) fn terminate(&mut self, limit: Duration) {
        if self.exit_status().is_none() {
            let _ = self.signal(Signal::TERM);
            // A paused server receives the signal only when it resumes.
            let _ = self.signal(Signal::CONT);
            self.wait(limit);
        }
        self.kill();
    }

    pub(super) fn kill(&mut self) {
        // The standard library sends no signal to a child that it has already waited for.
        let _ = self.server.kill();
        self.wait(KILL_LIMIT);
    }

    fn wait(&mut self, limit: Duration) {
        let give_up = Instant::now() + limit;
        while self.exit_status().is_none() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // The watchdog is killed before its standard input is closed. It must never signal a process id that may
        // belong to another process by now.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

/// Starts a shell that kills `server` when this process ends, for whatever reason.
///
/// The system then closes the other end of the pipe, and `read` returns. The kernel's own mechanism
/// (`PR_SET_PDEATHSIG`) exists on Linux only, and setting it in a child is unsafe code.
fn watch(server: u32) -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", r#"read -r line; kill -KILL "$1""#, "nats-server-watchdog"])
        .arg(server.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Kills a server that a wrapper has started, of which only the process id is known.
pub(super) fn kill_stranger(server: u32) {
    if let Ok(server) = pid(server) {
        let _ = kill_process(server, Signal::KILL);
    }
}

fn pid(id: u32) -> io::Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}
