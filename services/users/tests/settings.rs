//! The users binary reports invalid settings before it waits for nats-server.

use std::process::Command;

#[test]
fn a_setting_that_cannot_be_used_is_named_before_the_wait_for_nats_server() {
    for (name, value, named) in [
        ("JWT_SECRET", "your-secret-key", "JWT_SECRET has 15 bytes"),
        ("JWT_CHECK_REVOCATIONS", "maybe", "JWT_CHECK_REVOCATIONS must be"),
        ("JWT_WITHOUT_REVOCATIONS", "true", "JWT_WITHOUT_REVOCATIONS was renamed; set JWT_CHECK_REVOCATIONS"),
    ] {
        let mut users = Command::new(env!("CARGO_BIN_EXE_users"));
        // No server listens at port 1: code that connects first reports that error instead.
        users.envs([("NATS_URL", "nats://127.0.0.1:1"), ("NATS_CONNECT_TIMEOUT_MS", "1000")]);
        let output = users.env_remove("JWT_SECRET").env(name, value).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(named) && !said.contains(value), "{said}");
    }
}
