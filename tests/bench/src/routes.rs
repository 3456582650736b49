//! `routes`: the cost of a request in a service with many routes, and the cost of a route.

use std::error::Error;
use std::time::{Duration, Instant};

use nats_rpc::testing::NatsServer;
use serde::Serialize;

use crate::child::Child;
use crate::contestant::{Contestant, Job, Work};
use crate::instructions;
use crate::load::{Loader, Question};
use crate::report::{Table, Target, print_targets, write_json};
use crate::rpc::{Kind, question};
use crate::stats::{median, paired_ratio};

const COUNTS: [usize; 4] = [1, 10, 100, 1_000];
const LIMIT: Duration = Duration::from_secs(120);
const IN_FLIGHT: usize = 64;

#[derive(Debug, Serialize)]
struct Row {
    routes: usize,
    ready_ms: f64,
    /// All requests go to one route.
    cpu_s_per_100k: f64,
    ratio_to_one_route: f64,
    /// `None` without Valgrind.
    instructions_per_request: Option<f64>,
    /// The requests go to all routes in turn.
    cpu_s_per_100k_spread: f64,
    rss_mb_at_start: f64,
    rss_mb_after_use: f64,
}

struct Measured {
    job: Job,
    child: Child,
    questions: Vec<Question>,
    ready: Duration,
    at_start: f64,
    one: Vec<f64>,
    spread: Vec<f64>,
}

pub(crate) fn run(server: &NatsServer, rounds: usize, requests: usize) -> Result<(), Box<dyn Error>> {
    let mut loader = Loader::connect(server.port())?;
    let mut measured = Vec::new();
    for routes in COUNTS {
        let job = Job { routes, ..Job::new(Contestant::Ours, Work::Echo, format!("m{routes:04}")) };
        let start = Instant::now();
        let child = job.start(&server.url())?;
        let ready = start.elapsed();
        let at_start = child.memory()?.now;
        let questions: Result<Vec<_>, _> = job.subjects().iter().map(|subject| question(subject, Kind::Bare)).collect();
        let questions = questions?;
        // Every route has served a request before the measurement.
        loader.ask(&questions, routes.max(20_000), IN_FLIGHT, LIMIT)?;
        measured.push(Measured { job, child, questions, ready, at_start, one: Vec::new(), spread: Vec::new() });
    }
    for _ in 0..rounds {
        measured.rotate_left(1);
        for each in &mut measured {
            let mut cpu = |questions: &[Question]| -> Result<f64, Box<dyn Error>> {
                let before = each.child.cpu()?;
                loader.ask(questions, requests, IN_FLIGHT, LIMIT)?;
                Ok((each.child.cpu()? - before).as_secs_f64() * 100_000.0 / requests as f64)
            };
            each.one.push(cpu(&each.questions[..1])?);
            each.spread.push(cpu(&each.questions)?);
        }
    }
    measured.sort_by_key(|each| each.job.routes);
    let mut rows = Vec::new();
    for each in &measured {
        rows.push(summarise(server, each, &measured[0])?);
    }
    print(&rows);
    write_json("routes", &rows)
}

fn summarise(server: &NatsServer, each: &Measured, one: &Measured) -> Result<Row, Box<dyn Error>> {
    let instructions = match instructions::are_countable() {
        true => {
            let job = Job { one_thread: true, prefix: "count".to_owned(), ..each.job.clone() };
            let question = question(&job.subjects()[0], Kind::Bare)?;
            let file = format!("routes.{}", job.routes);
            Some(instructions::per_request(server, &job, &question, 11_000, &file)?)
        }
        false => None,
    };
    Ok(Row {
        routes: each.job.routes,
        ready_ms: each.ready.as_secs_f64() * 1_000.0,
        cpu_s_per_100k: median(&each.one),
        ratio_to_one_route: paired_ratio(&each.one, &one.one),
        instructions_per_request: instructions,
        cpu_s_per_100k_spread: median(&each.spread),
        rss_mb_at_start: each.at_start,
        rss_mb_after_use: each.child.memory()?.now,
    })
}

fn print(rows: &[Row]) {
    let head =
        ["routes", "ready ms", "CPU-s per 100k", "/ one", "instructions", "all in turn", "MB at start", "MB used"];
    let mut table = Table::new("echo on one of many routes, 64 in flight", &head);
    for row in rows {
        table.row([
            row.routes.to_string(),
            format!("{:.0}", row.ready_ms),
            format!("{:.3}", row.cpu_s_per_100k),
            format!("{:.3}", row.ratio_to_one_route),
            row.instructions_per_request.map_or("no Valgrind".to_owned(), |count| format!("{count:.0}")),
            format!("{:.3}", row.cpu_s_per_100k_spread),
            format!("{:.1}", row.rss_mb_at_start),
            format!("{:.1}", row.rss_mb_after_use),
        ]);
    }
    table.print();
    let (Some(one), Some(all)) = (rows.first(), rows.last()) else { return };
    let more = (all.routes - one.routes) as f64;
    let mut targets = vec![
        Target::new("CPU of a request at 1,000 routes to one", all.ratio_to_one_route, 1.10),
        Target::new("kB a route, at start", (all.rss_mb_at_start - one.rss_mb_at_start) * 1_000.0 / more, 13.0),
        Target::new("kB a route, each used", (all.rss_mb_after_use - one.rss_mb_after_use) * 1_000.0 / more, 13.0),
    ];
    if let (Some(one), Some(all)) = (one.instructions_per_request, all.instructions_per_request) {
        targets.push(Target::new("instructions of a request at 1,000 routes to one", all / one, 1.10));
    }
    print_targets(&targets);
}
