//! `overload`: the outcome for callers at twice the capacity.

use std::error::Error;
use std::time::Duration;

use nats_rpc::testing::NatsServer;
use serde::Serialize;

use crate::contestant::{Contestant, Job, Work};
use crate::load::{Loader, Offer};
use crate::report::{Table, Target, print_targets, write_json};
use crate::rpc::{Kind, question};

const CONCURRENCY: usize = 32;
/// Timeout of a caller.
const PATIENCE: Duration = Duration::from_millis(250);
/// Duration of the capacity measurement, and of the overload.
const LASTS: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
struct Row {
    contestant: &'static str,
    handler: &'static str,
    capacity_rps: f64,
    offered_rps: f64,
    /// Correct replies per second within the callers' timeout.
    goodput_rps: f64,
    goodput_to_capacity: f64,
    refused: usize,
    late: usize,
    unanswered: usize,
    /// Of correct replies, including late ones.
    p99_us: u32,
    peak_mb: f64,
    /// From the end of the overload to the next correct reply.
    recovery_ms: f64,
}

pub(crate) fn run(server: &NatsServer) -> Result<(), Box<dyn Error>> {
    use Contestant::{Ours, Spawn};
    let head =
        ["", "handler", "capacity", "goodput", "/ capacity", "refused", "late", "lost", "p99 ms", "peak MB", "back ms"];
    let title = format!("twice the capacity for {LASTS:?}; a caller waits {PATIENCE:?}, {CONCURRENCY} handlers run");
    let mut table = Table::new(title, &head);
    let mut rows = Vec::new();
    for work in [Work::Doze, Work::Burn] {
        for contestant in [Spawn, Ours] {
            let failed = |error| format!("{}, {}: {error}", contestant.name(), work.name());
            let row = measure(server, contestant, work).map_err(failed)?;
            table.row([
                row.contestant.to_owned(),
                row.handler.to_owned(),
                format!("{:.0}/s", row.capacity_rps),
                format!("{:.0}/s", row.goodput_rps),
                format!("{:.2}", row.goodput_to_capacity),
                row.refused.to_string(),
                row.late.to_string(),
                row.unanswered.to_string(),
                format!("{:.1}", f64::from(row.p99_us) / 1_000.0),
                format!("{:.1}", row.peak_mb),
                format!("{:.1}", row.recovery_ms),
            ]);
            rows.push(row);
        }
    }
    table.print();
    println!("doze waits 5 ms; burn computes for some 100 µs");
    let ours = rows.iter().filter(|row| row.contestant == Ours.name());
    let targets: Vec<Target> = ours
        .map(|row| {
            let what = format!("{}: capacity lost at twice the load", row.handler);
            Target::new(what, 1.0 - row.goodput_to_capacity, 0.15)
        })
        .collect();
    print_targets(&targets);
    write_json("overload", &rows)
}

fn measure(server: &NatsServer, contestant: Contestant, work: Work) -> Result<Row, Box<dyn Error>> {
    let job = Job { concurrency: CONCURRENCY, ..Job::new(contestant, work, contestant.name()) };
    let child = job.start(&server.url())?;
    let question = question(&job.subject(), Kind::Bare)?;
    let questions = std::slice::from_ref(&question);
    let mut loader = Loader::connect(server.port())?;
    loader.wait_for_answer(&question, LIMIT)?;
    // A short run estimates the number of requests for the long one.
    let guess = loader.ask(questions, 2_000, CONCURRENCY, LIMIT)?.per_second();
    let capacity = loader.ask(questions, (guess * LASTS.as_secs_f64()) as usize, CONCURRENCY, LIMIT)?.per_second();
    let offer = Offer { per_second: 2.0 * capacity, lasts: LASTS, patience: PATIENCE };
    let offered = loader.offer(&question, offer)?;
    let recovery = loader.wait_for_answer(&question, LIMIT)?;
    Ok(Row {
        contestant: contestant.name(),
        handler: work.name(),
        capacity_rps: capacity,
        offered_rps: offer.per_second,
        goodput_rps: offered.goodput(),
        goodput_to_capacity: offered.goodput() / capacity,
        refused: offered.refused,
        late: offered.late,
        unanswered: offered.asked - offered.good - offered.late - offered.refused,
        p99_us: offered.latency_us(99.0),
        peak_mb: child.memory()?.peak,
        recovery_ms: recovery.as_secs_f64() * 1_000.0,
    })
}
