//! NestJS, the official services client and a Python client against our services: their own programs, unchanged.
//!
//! What needs Node is skipped where there is none, with a line that says so; where `CI` is set it fails.

mod micro;
mod migration;
mod nest_client;
mod nest_service;
mod python;
mod tracing;
mod wire;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use nats_rpc::testing::NatsServer;
use nats_rpc::{ServiceHandle, WireFormat};
use nats_rpc_tests::node;
use serde::Deserialize;
use serde_json::Value;

use crate::support::nats;

/// One captured exchange between NestJS's programs; see `tests/fixtures/nest-wire.json`.
#[derive(Deserialize)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) client_call: Option<String>,
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) client_sees: Vec<Value>,
}

#[derive(Deserialize)]
pub(crate) struct Message {
    pub(crate) direction: String,
    pub(crate) subject: Option<String>,
    pub(crate) reply: Option<String>,
    #[serde(default)]
    pub(crate) headers: std::collections::BTreeMap<String, Vec<String>>,
    pub(crate) payload: Option<String>,
    pub(crate) payload_hex: Option<String>,
}

impl Message {
    /// The body as it was captured; the hexadecimal form also holds what is no text.
    pub(crate) fn body(&self) -> Vec<u8> {
        match &self.payload_hex {
            Some(hex) => {
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
            }
            None => self.payload.clone().unwrap_or_default().into_bytes(),
        }
    }
}

pub(crate) fn captures() -> Vec<Capture> {
    serde_json::from_str(include_str!("../../../fixtures/nest-wire.json")).unwrap()
}

/// The service of `examples/interop`, in this process.
pub(crate) async fn ours(server: &NatsServer, wire: WireFormat) -> Vec<ServiceHandle> {
    let mut running = Vec::new();
    for service in nats_rpc_examples::interop::services(wire) {
        running.push(service.start(nats(server)).await.unwrap());
    }
    running
}

/// Says how many cases there were, past the capturing of test output.
pub(crate) fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "interop: {line}");
}

/// Whether tests that need Node can run.
///
/// # Panics
/// Where `CI` is set and there is no Node.
pub(crate) fn node_is_there() -> bool {
    let there = node::is_there();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "CI is set, so these tests must run: install Node 20 with npm");
        report("SKIPPED, as `node` cannot be started: install Node 20 with npm");
    }
    there
}

/// A program of `tests/interop` with its packages installed.
pub(crate) fn program(name: &str, server: &NatsServer) -> Command {
    let mut command = node::program(name).unwrap_or_else(|error| panic!("{error}"));
    command.env("NATS_URL", server.url());
    command
}

/// Runs a program to its end and gives the lines of JSON that it printed.
pub(crate) async fn lines(mut command: Command) -> Vec<Value> {
    let run = move || command.stdin(Stdio::null()).output().unwrap();
    let output = crate::support::soon(tokio::task::spawn_blocking(run)).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let lines: Vec<Value> = text.lines().map(parse).collect();
    assert!(!lines.is_empty(), "it said nothing: {}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// A program that serves, in a process of its own; ended when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, and gives what it said behind the word READY.
    pub(crate) async fn start(mut command: Command) -> (Self, String) {
        let mut process = Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(process.0.stdout.take().unwrap());
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            // Read on, as a process that writes into a closed pipe is ended by it.
            std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
            line.strip_prefix("READY").unwrap_or_else(|| panic!("{line:?}")).trim().to_owned()
        });
        (process, crate::support::soon(ready).await.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
