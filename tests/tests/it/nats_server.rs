//! The server for tests itself: it comes up as asked, and it never stays behind.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nats_rpc::testing::{NatsServer, NatsServerError};
use nats_rpc_tests::{server, server_with};
use rustix::process::{Pid, test_kill_process};
use serde_json::Value;

/// Long enough for anything that happens at all.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_started_server_greets_with_its_port_and_jetstream() {
    let server = server();

    let info = info(server.port()).expect("an INFO line");

    assert_eq!(info["port"], server.port());
    assert_eq!(info["jetstream"], true);
    assert_eq!(server.url(), format!("nats://127.0.0.1:{}", server.port()));
    assert!(server.log().contains("Server is ready"));
}

#[test]
fn jetstream_can_be_left_out() {
    let server = server_with(|builder| builder.jetstream(false));
    assert_eq!(info(server.port()).expect("an INFO line").get("jetstream"), None);
}

#[test]
fn a_dropped_server_is_gone() {
    let server = server();
    let (port, pid) = (server.port(), server.pid());

    drop(server);

    assert!(info(port).is_err());
    assert!(!is_alive(pid));
}

#[test]
fn a_paused_server_is_silent_until_resumed_and_can_be_dropped() {
    let server = server();
    server.pause().expect("a running server");
    assert!(connect(server.port(), Duration::from_millis(200)).is_err());
    server.resume().expect("a running server");
    assert!(info(server.port()).is_ok());

    server.pause().expect("a running server");
    let (pid, start) = (server.pid(), Instant::now());
    drop(server);
    assert!(!is_alive(pid));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_killed_server_restarts_on_its_port_with_its_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = server_with(|builder| builder.store_dir(folder.path().join("js")));
    let (port, first) = (server.port(), server.pid());

    server.kill();
    assert!(!is_alive(first));
    assert!(info(port).is_err());
    assert!(server.pause().is_err());
    server.restart().expect("a second start");

    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), first);
    assert_eq!(info(port).expect("an INFO line")["port"], port);
    drop(server);
    assert!(folder.path().join("js/jetstream").is_dir());
}

#[test]
fn a_terminated_server_says_goodbye_and_restarts_on_its_port() {
    let mut server = server();
    let port = server.port();

    server.terminate();
    assert!(server.log().contains("Server Exiting"));
    server.restart().expect("a second start");

    assert_eq!(info(port).expect("an INFO line")["port"], port);
}

#[test]
fn a_lame_duck_tells_its_clients() {
    let mut server = server();
    let (_, mut connection) = connect(server.port(), LIMIT).expect("a connection");
    connection
        .get_mut()
        .write_all(b"CONNECT {\"protocol\":1,\"verbose\":false}\r\nPING\r\n")
        .expect("an open connection");
    let mut answer = String::new();
    connection.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "PONG\r\n");

    server.lame_duck().expect("a running server");

    while next_info(&mut connection).expect("an INFO line")["ldm"] != true {}
    server.kill();
}

#[test]
fn the_text_of_the_configuration_is_used() {
    let server = server_with(|builder| builder.config("max_payload: 2048\nauthorization { user: a, password: b }"));

    let info = info(server.port()).expect("an INFO line");

    assert_eq!(info["max_payload"], 2048);
    assert_eq!(info["auth_required"], true);
}

#[test]
fn a_wrong_configuration_fails_at_once_and_shows_the_log() {
    let binary = nats_rpc_tests::nats_server::path().expect("a binary");
    let start = Instant::now();

    let error = NatsServer::at(binary).config("max_payload: oops").start();

    let error = error.expect_err("a wrong configuration");
    assert!(matches!(error, NatsServerError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("server.conf"), "{error}");
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn a_version_below_2_11_is_refused() {
    let error = NatsServer::at(fixture("old-nats-server")).start().expect_err("an old version");
    assert!(matches!(&error, NatsServerError::TooOld { version, .. } if version == "2.10.29"));
    assert!(error.to_string().contains("2.11 or newer"), "{error}");
}

#[test]
fn what_is_not_a_nats_server_is_refused() {
    for binary in ["/nowhere/nats-server", "/bin/ls"] {
        let error = NatsServer::at(binary).start().expect_err("not a server");
        assert!(matches!(error, NatsServerError::NotUsable { .. }), "{error}");
    }
}

#[test]
fn a_server_behind_a_wrapper_is_started_without_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let real = nats_rpc_tests::nats_server::path().expect("a binary");
    symlink(&real, folder.path().join("real-nats-server")).expect("a link");
    let wrapper = folder.path().join("nats-server");
    symlink(fixture("wrapped-nats-server"), &wrapper).expect("a link");

    let started = NatsServer::at(&wrapper).start();

    // Which program a process runs is known on Linux only; elsewhere the error says what to set.
    if cfg!(target_os = "linux") {
        let server = started.expect("a server");
        assert_eq!(server.binary(), real.canonicalize().expect("a real path"));
        assert!(info(server.port()).is_ok());
    } else {
        assert!(matches!(started, Err(NatsServerError::Wrapper { .. })));
    }
}

#[test]
fn a_server_does_not_outlive_a_killed_test() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut holder = Command::new(env!("CARGO_BIN_EXE_hold-nats-server"))
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the holder");
    let mut url = String::new();
    BufReader::new(holder.stdout.take().expect("its output")).read_line(&mut url).expect("a line");
    let (_, port) = url.trim().rsplit_once(':').expect("a URL");
    let port = port.parse().expect("a port");
    assert!(info(port).is_ok());

    holder.kill().expect("a running holder");
    holder.wait().expect("a killed holder");

    let give_up = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < give_up, "the server is still there");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_any_server_the_error_names_the_ways() {
    let folder = tempfile::tempdir().expect("a temporary folder");

    let output = path_with(folder.path(), folder.path(), None);

    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for way in ["NATS_SERVER_BIN", "on PATH", "python3 -m pip"] {
        assert!(error.contains(way), "no {way:?} in {error}");
    }
}

#[test]
fn an_installed_server_is_preferred_and_the_named_one_wins() {
    let real = nats_rpc_tests::nats_server::path().expect("a binary");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    for (folder, target) in [(&old, &fixture("old-nats-server")), (&new, &real)] {
        std::fs::create_dir(folder).expect("a folder");
        symlink(target, folder.join("nats-server")).expect("a link");
    }

    let on_path = path_with(&new, folder.path(), None);
    let old_on_path = path_with(&old, folder.path(), None);
    let named = path_with(&old, folder.path(), Some(&real));
    let old_named = path_with(&new, folder.path(), Some(&old.join("nats-server")));

    assert_eq!(printed_path(&on_path), new.join("nats-server"));
    assert!(!old_on_path.status.success());
    assert_eq!(printed_path(&named), real);
    assert!(!old_named.status.success());
}

/// Runs the search with a `PATH` and a target folder of its own.
fn path_with(path: &Path, target: &Path, named: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nats-server-path"));
    command.env("PATH", path).env("CARGO_TARGET_DIR", target).env_remove("NATS_SERVER_BIN");
    if let Some(named) = named {
        command.env("NATS_SERVER_BIN", named);
    }
    command.output().expect("the search")
}

fn printed_path(output: &Output) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// What the server at `port` says to a new connection.
fn info(port: u16) -> io::Result<Value> {
    connect(port, LIMIT).map(|(info, _)| info)
}

fn connect(port: u16, read_limit: Duration) -> io::Result<(Value, BufReader<TcpStream>)> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(read_limit))?;
    let mut lines = BufReader::new(stream);
    Ok((next_info(&mut lines)?, lines))
}

fn next_info(lines: &mut BufReader<TcpStream>) -> io::Result<Value> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let info = line.strip_prefix("INFO ").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(info)?)
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    test_kill_process(pid).is_ok()
}
