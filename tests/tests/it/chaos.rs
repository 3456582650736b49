//! The scenarios of the chaos suite, each for a few seconds.
//!
//! What they measure in milliseconds is for the program `chaos` to judge, on a machine with nothing else
//! to do; so is the one that only measures, `neighbours`.

use std::process::Command;

use nats_rpc_tests::chaos::{Options, Scenario};

fn holds(name: &str) {
    let report = Scenario::named(name).expect("a scenario of this name").run(Options { short: true, seed: 1 });
    assert!(report.passed(), "\n{report}");
}

#[test]
fn a_rolling_restart_loses_nothing() {
    holds("rolling");
}

#[test]
fn calls_end_by_their_deadline_whatever_the_server_does() {
    holds("server");
}

#[test]
fn an_overload_is_turned_away_and_passes() {
    holds("overload");
}

#[test]
fn hostile_bytes_stop_no_service_for_long() {
    holds("hostile");
}

#[test]
fn poisoned_messages_leave_two_instances_usable() {
    holds("poison");
}

#[test]
fn handlers_that_misbehave_keep_no_permit() {
    holds("storm");
}

#[test]
fn no_stream_ends_in_silence() {
    holds("streams");
}

#[test]
fn calls_survive_the_end_of_a_node() {
    holds("cluster");
}

#[test]
fn sessions_and_revocations_survive_the_end_of_a_node() {
    holds("auth");
}

/// In a process of its own, as the memory is the whole process's.
#[test]
fn calls_and_requests_leave_nothing_behind() {
    let ran = Command::new(env!("CARGO_BIN_EXE_chaos")).args(["memory", "--short"]).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}
