//! `start`: the time to the first reply, and the memory at that time and a million requests later.

use std::error::Error;
use std::time::{Duration, Instant};

use nats_rpc::testing::NatsServer;
use serde::Serialize;

use crate::child::Child;
use crate::contestant::{Contestant, Job, Work};
use crate::load::Loader;
use crate::report::{Table, Target, print_targets, write_json};
use crate::rpc::{Kind, question};
use crate::stats::median;

const STARTS: usize = 11;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
struct Row {
    contestant: &'static str,
    first_answer_ms: f64,
    rss_mb_at_first_answer: f64,
    requests: usize,
    rss_mb_after_a_tenth: f64,
    rss_mb_after_all: f64,
    peak_mb: f64,
}

pub(crate) fn run(server: &NatsServer, nest: bool, requests: usize) -> Result<(), Box<dyn Error>> {
    use Contestant::{Guarded, Nest, Ours, Serial};
    let contestants: &[Contestant] = if nest { &[Serial, Ours, Guarded, Nest] } else { &[Serial, Ours, Guarded] };
    let (tenth, all) = (format!("MB after {}", requests / 10), format!("MB after {requests}"));
    let head = ["", "first answer ms", "MB then", &tenth, &all, "peak MB"];
    let mut table = Table::new(format!("start to first answer, median of {STARTS}; resident memory"), &head);
    let mut rows = Vec::new();
    for &contestant in contestants {
        let row = measure(server, contestant, requests).map_err(|error| format!("{}: {error}", contestant.name()))?;
        table.row([
            row.contestant.to_owned(),
            format!("{:.1}", row.first_answer_ms),
            format!("{:.1}", row.rss_mb_at_first_answer),
            format!("{:.1}", row.rss_mb_after_a_tenth),
            format!("{:.1}", row.rss_mb_after_all),
            format!("{:.1}", row.peak_mb),
        ]);
        rows.push(row);
    }
    table.print();
    let ours = rows.iter().filter(|row| row.contestant.starts_with(Ours.name()));
    let targets: Vec<Target> = ours
        .flat_map(|row| {
            let name = row.contestant;
            [
                Target::new(format!("{name}: start to first answer, ms"), row.first_answer_ms, 100.0),
                Target::new(format!("{name}: resident after {requests} requests, MB"), row.rss_mb_after_all, 12.0),
            ]
        })
        .collect();
    print_targets(&targets);
    write_json("start", &rows)
}

fn measure(server: &NatsServer, contestant: Contestant, requests: usize) -> Result<Row, Box<dyn Error>> {
    let kind = match contestant {
        Contestant::Guarded => Kind::Headers,
        Contestant::Nest => Kind::Envelope,
        _ => Kind::Bare,
    };
    let mut loader = Loader::connect(server.port())?;
    let job = Job::new(contestant, Work::Echo, "bench");
    let question = question(&job.subject(), kind)?;
    let mut first = || -> Result<(Child, f64), Box<dyn Error>> {
        let start = Instant::now();
        let child = job.start(&server.url())?;
        loader.wait_for_answer(&question, LIMIT)?;
        Ok((child, start.elapsed().as_secs_f64() * 1_000.0))
    };
    let mut times = Vec::new();
    for _ in 1..STARTS {
        let (child, took) = first()?;
        times.push(took);
        child.stop()?;
    }
    let (child, took) = first()?;
    times.push(took);
    let at_first_answer = child.memory()?;
    let questions = std::slice::from_ref(&question);
    loader.ask(questions, requests / 10, 64, LIMIT)?;
    let after_a_tenth = child.memory()?;
    loader.ask(questions, requests - requests / 10, 64, LIMIT)?;
    let after_all = child.memory()?;
    Ok(Row {
        contestant: contestant.name(),
        first_answer_ms: median(&times),
        rss_mb_at_first_answer: at_first_answer.now,
        requests,
        rss_mb_after_a_tenth: after_a_tenth.now,
        rss_mb_after_all: after_all.now,
        peak_mb: after_all.peak,
    })
}
