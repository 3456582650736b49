//! What the nats-server refuses, and what nobody may find in a log.

use super::capture;
use super::harness::{self, Outcome, Verdict, cases};

pub(super) async fn run() -> Vec<Outcome> {
    let mut outcomes = harness::run(async || (), cases![]).await;
    outcomes.push(Outcome::of("nats-10", Verdict::NotApplicable("no auth callout is used")));
    outcomes
}

/// `nats-11`: nothing secret was logged, at whatever level. To be asked when all other cases have run.
pub(super) async fn log_leakage() -> Vec<Outcome> {
    harness::run(async || (), cases!["nats-11" => nothing_secret_is_logged]).await
}

async fn nothing_secret_is_logged(_: &()) {
    let log = capture::log();
    // The control: that the log was caught, down to the reasons that no caller learns.
    for reason in ["signature does not verify", "not the key's algorithm", "a stored password hash is malformed"] {
        assert!(log.contains(reason), "{reason:?} is not in the log of {} bytes", log.len());
        harness::passed();
    }
    // How a JWT, a refresh token, a password hash and a NATS seed begin, whosesoever they are.
    for beginning in ["eyJ", "nrt1.", "$2a$", "$2b$", "$argon2", "SUA"] {
        let found = log.find(beginning).map(|at| &log[at.saturating_sub(200)..(at + 50).min(log.len())]);
        assert_eq!(found, None, "{beginning:?} is in the log");
        harness::refused();
    }
    for secret in capture::secrets() {
        assert!(!log.contains(&secret), "{secret:?} is in the log");
        harness::refused();
    }
}
