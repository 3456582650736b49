//! The program leaves no process behind, however it ends.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any successful run takes, including a download.
const PATIENCE: Duration = Duration::from_secs(120);
const MARK: &str = "DEMO_UNDER_TEST";

/// The program, and a mark that identifies all processes it starts.
struct Demo {
    process: Child,
    mark: String,
}

impl Demo {
    fn start(words: &[&str], configure: impl FnOnce(&mut Command)) -> Self {
        let mark = uuid::Uuid::now_v7().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["NATS_URL", "JWT_SECRET", "JWT_REFRESH_SECRET", "GATEWAY_ADDRESS"] {
            command.env_remove(name);
        }
        command.env(MARK, &mark);
        configure(&mut command);
        Self { process: command.spawn().unwrap(), mark }
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout: ChildStdout = self.process.stdout.take().unwrap();
        BufReader::new(stdout).lines().map_while(Result::ok)
    }

    /// Lists the processes that carry the mark in their environment: those of the program, and their children.
    fn processes(&self) -> Vec<String> {
        let marked = format!("{MARK}={}", self.mark);
        let folders = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let found = folders.filter(|folder| {
            let environment = fs::read(folder.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == marked.as_bytes())
        });
        found.map(|folder| fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned()).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the program and all processes that it started have ended.
    fn end(mut self) -> (ExitStatus, String) {
        let status = until("the program ends", || self.process.try_wait().unwrap());
        until("nothing is left", || self.processes().is_empty().then_some(()));
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < give_up, "{what}: waited for too long");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the status line of `GET path`.
fn get(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    BufReader::new(socket).lines().next().unwrap().unwrap()
}

#[test]
fn the_walk_succeeds_and_leaves_nothing() {
    let mut demo = Demo::start(&[], |_| {});
    let lines: Vec<_> = demo.lines().collect();
    let (status, said) = demo.end();
    assert!(status.success(), "{lines:#?}\n{said}");
    assert!(lines.last().unwrap().starts_with("all "), "{lines:#?}");
    assert!(lines.iter().filter(|line| line.starts_with("ok ")).count() > 25, "{lines:#?}");
}

#[test]
fn sigterm_and_ctrl_c_end_a_system_that_serves() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut demo = Demo::start(&["--serve"], |_| {});
        let mut lines = demo.lines();
        let mut value = |name: &str| lines.find_map(|line| Some(line.strip_prefix(name)?.to_owned())).unwrap();
        let nats_url = value("NATS_URL=");
        let gateway_url = value("GATEWAY_URL=");
        assert_eq!(get(&gateway_url, "/readyz"), "HTTP/1.1 200 OK");
        assert!(demo.processes().iter().any(|name| name.starts_with("nats-server")), "{:?}", demo.processes());
        demo.signal(signal);
        let (status, said) = demo.end();
        assert!(status.success(), "{said}");
        assert!(TcpStream::connect(nats_url.strip_prefix("nats://").unwrap()).is_err());
    }
}

/// Returns the arguments that the program gets from `cargo demo <words>`, as cargo expands the alias.
fn through_the_alias(words: &[&str]) -> Vec<String> {
    let config = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cargo/config.toml")).unwrap();
    let alias = config.lines().find_map(|line| line.strip_prefix("demo = \"")?.strip_suffix('"')).unwrap();
    let mut all = alias.split(' ').chain(words.iter().copied());
    // cargo itself reads the arguments up to the first `--`.
    assert!(all.by_ref().any(|word| word == "--"), "{alias}");
    all.map(str::to_owned).collect()
}

#[test]
fn documented_command_serves() {
    let words = through_the_alias(&["--", "--serve"]);
    let mut demo = Demo::start(&words.iter().map(String::as_str).collect::<Vec<_>>(), |_| {});
    let mut lines = demo.lines();
    assert!(lines.any(|line| line.starts_with("GATEWAY_URL=")));
    demo.signal(Signal::TERM);
    let (status, said) = demo.end();
    assert!(status.success(), "{said}");
}

#[test]
fn sigterm_ends_a_walk() {
    let mut demo = Demo::start(&[], |_| {});
    demo.lines().find(|line| line.contains("sign-up")).unwrap();
    demo.signal(Signal::TERM);
    let (status, _) = demo.end();
    assert!(!status.success());
}

#[test]
fn sigterm_ends_the_search_for_a_nats_server_and_what_it_started() {
    let folder = std::env::temp_dir().join(uuid::Uuid::now_v7().to_string());
    fs::create_dir(&folder).unwrap();
    let (slow, begun) = (folder.join("nats-server"), folder.join("begun"));
    fs::write(&slow, format!("#!/bin/sh\ntouch '{}'\nsleep 600\n", begun.display())).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let demo = Demo::start(&[], |command| {
            command.env("NATS_SERVER_BIN", &slow);
        });
        until("the search begins", || begun.exists().then_some(()));
        assert!(demo.processes().len() >= 3, "{:?}", demo.processes());
        demo.signal(signal);
        let (status, _) = demo.end();
        assert!(!status.success());
        fs::remove_file(&begun).unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_mistake_on_the_command_line_is_explained() {
    let demo = Demo::start(&["--server"], |_| {});
    let (status, said) = demo.end();
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("usage"), "{said}");
}
