//! `auth`: the cost of verification, refresh, revocation and log-in.

mod log_in;
mod process;
mod refresh;
mod revoke;
mod tokens;
mod verify;

use std::error::Error;

use nats_rpc::testing::NatsServer;
use serde::Serialize;

pub(crate) use self::process::{NAME as SERVICE, run as serve};
use crate::report::{Table, Target, print_targets, write_json};

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    verifications: Vec<verify::Verification>,
    refresh_alone: Latency,
    refresh_32_at_once: Latency,
    revocation_seen_by_three: Latency,
    hashing: Vec<log_in::Hashing>,
    log_in: log_in::Price,
    flood: log_in::Flood,
}

pub(crate) fn run(server: &NatsServer) -> Result<(), Box<dyn Error>> {
    let verifications = verify::measure()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let results = runtime.block_on(async {
        let (refresh_alone, refresh_32_at_once) = refresh::measure(server).await?;
        let revocation_seen_by_three = revoke::measure(server).await?;
        let hashing = log_in::hashing().await?;
        let (log_in, flood) = log_in::measure(server).await?;
        let results = Results {
            verifications,
            refresh_alone,
            refresh_32_at_once,
            revocation_seen_by_three,
            hashing,
            log_in,
            flood,
        };
        Ok::<_, Box<dyn Error>>(results)
    })?;
    print(&results);
    write_json("auth", &results)
}

fn print(results: &Results) {
    let number = |value: f64| format!("{value:.2}");
    let mut table = Table::new("verifying one access token, µs, best of several rounds", &["", "first time", "known"]);
    for row in &results.verifications {
        table.row([row.algorithm.to_owned(), number(row.first_us), number(row.known_us)]);
    }
    table.print();

    let mut table = Table::new("latencies, µs", &["", "p50", "p99", "max"]);
    let mut row = |name: &str, latency: Latency| {
        let numbers = [latency.p50_us, latency.p99_us, latency.max_us].map(|micros| format!("{micros:.0}"));
        table.row([name.to_owned()].into_iter().chain(numbers));
    };
    row("refresh, one at a time", results.refresh_alone);
    row("refresh, 32 sessions at once", results.refresh_32_at_once);
    row("revocation, until three services refuse", results.revocation_seen_by_three);
    row("log-in, known address, wrong password", results.log_in.known);
    row("log-in, unknown address", results.log_in.unknown);
    row("another request, idle", results.flood.idle);
    row("another request, during a flood of log-ins", results.flood.flooded);
    table.print();

    let mut table = Table::new("log-ins a second and core", &["bcrypt's cost", "log-ins", "CPU ms each"]);
    for row in &results.hashing {
        table.row([row.cost.to_string(), format!("{:.1}", row.per_second_and_core), format!("{:.1}", row.cpu_ms)]);
    }
    table.print();
    let log_in::Flood { asked, looked_at, refused, .. } = results.flood;
    println!("\nthe flood: {asked} log-ins, {looked_at} looked at, {refused} refused at once");

    print_targets(&[
        Target::new("log-in: unknown to known, off by", (results.log_in.unknown_to_known - 1.0).abs(), 0.05),
        Target::new("flood: p99 of others to idle", results.flood.p99_to_idle, 2.0),
        Target::new("revocation: p99, ms", results.revocation_seen_by_three.p99_us / 1_000.0, 100.0),
    ]);
}

impl Latency {
    fn of(micros: &[f64]) -> Self {
        let mut sorted = micros.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
        };
        Self { p50_us: at(0.50), p99_us: at(0.99), max_us: at(1.0) }
    }
}

fn micros(since: std::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_values_that_were_measured() {
        let micros: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let latency = Latency::of(&micros);
        assert_eq!((latency.p50_us, latency.p99_us, latency.max_us), (100.0, 198.0, 200.0));
        assert!(Latency::of(&[]).p50_us.is_nan());
    }
}
