//! `rpc`: CPU, throughput and latency of every contestant, side by side.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use nats_rpc::testing::NatsServer;
use serde::Serialize;

use crate::child::Child;
use crate::contestant::{Contestant, Job, Work};
use crate::load::{Loader, Question};
use crate::readme::Matrix;
use crate::report::{Table, Target, print_targets, write_json};
use crate::stats::{median, paired_ratio};
use crate::{picture, readme, token};

/// Timeout of one contestant's round.
const ROUND: Duration = Duration::from_secs(120);
/// Number of requests before the first round.
const WARM_UP: usize = 20_000;

pub(crate) struct Options<'a> {
    pub(crate) nest: bool,
    pub(crate) rounds: usize,
    pub(crate) requests: usize,
    /// The output path of the chart.
    pub(crate) picture: Option<&'a Path>,
    /// The file whose figures are replaced.
    pub(crate) readme: Option<&'a Path>,
}

/// A kind of requests, and the contestants that receive them.
struct Load {
    name: &'static str,
    work: Work,
    in_flight: usize,
    kind: Kind,
    contestants: &'static [Contestant],
    baseline: Contestant,
}

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The payload only.
    Bare,
    /// With three headers, one of which is the token.
    Headers,
    /// In the envelope of NestJS.
    Envelope,
    /// In the envelope of NestJS, with the headers.
    GuardedEnvelope,
}

const ECHO: &str = "echo, 64 in flight";
const ECHO_16: &str = "echo, 16 in flight";
const SLEEP: &str = "1 ms handlers, 64 in flight";
const HEADERS: &str = "echo with three headers, 64 in flight";
const ENVELOPE: &str = "echo in NestJS's envelope, 64 in flight";
const GUARDED: &str = "guarded echo in NestJS's envelope, 64 in flight";

fn loads(nest: bool) -> Vec<Load> {
    use Contestant::{Floor, Fu, Guarded, Nest, NestGuarded, Ours, Ruststream, Scoped, Serial, Service, Spawn};
    let mut loads = vec![
        Load {
            name: ECHO,
            work: Work::Echo,
            in_flight: 64,
            kind: Kind::Bare,
            contestants: &[Serial, Floor, Fu, Spawn, Service, Ours, Ruststream],
            baseline: Serial,
        },
        Load {
            name: ECHO_16,
            work: Work::Echo,
            in_flight: 16,
            kind: Kind::Bare,
            contestants: &[Serial, Fu, Spawn, Service, Ours, Ruststream],
            baseline: Serial,
        },
        Load {
            name: SLEEP,
            work: Work::Sleep,
            in_flight: 64,
            kind: Kind::Bare,
            contestants: &[Fu, Spawn, Ours],
            baseline: Fu,
        },
        Load {
            name: HEADERS,
            work: Work::Echo,
            in_flight: 64,
            kind: Kind::Headers,
            contestants: &[Serial, Service, Ours, Guarded, Scoped, Ruststream],
            baseline: Serial,
        },
    ];
    if nest {
        loads.push(Load {
            name: ENVELOPE,
            work: Work::Echo,
            in_flight: 64,
            kind: Kind::Envelope,
            contestants: &[Nest, Ours],
            baseline: Nest,
        });
        loads.push(Load {
            name: GUARDED,
            work: Work::Echo,
            in_flight: 64,
            kind: Kind::GuardedEnvelope,
            contestants: &[NestGuarded, Guarded, Scoped],
            baseline: NestGuarded,
        });
    }
    loads
}

/// Returns the request of `kind` for `subject`.
pub(crate) fn question(subject: &str, kind: Kind) -> Result<Question, Box<dyn Error>> {
    const DATA: &str = r#"{"id":42,"name":"Ada Lovelace"}"#;
    const ID: &str = "88a5f0d6ac4d1830655c1";
    let question = match kind {
        Kind::Bare | Kind::Headers => Question::new(subject, DATA, DATA),
        Kind::Envelope | Kind::GuardedEnvelope => Question::new(
            subject,
            format!(r#"{{"pattern":"{subject}","data":{DATA},"id":"{ID}"}}"#),
            format!(r#"{{"response":{DATA},"isDisposed":true,"id":"{ID}"}}"#),
        ),
    };
    Ok(match kind {
        Kind::Bare | Kind::Envelope => question,
        Kind::Headers | Kind::GuardedEnvelope => question.with_headers([
            ("authorization", format!("Bearer {}", token::issue()?)),
            ("x-request-id", "0123456789abcdef".to_owned()),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ]),
    })
}

/// One line of the result.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) contestant: &'static str,
    #[serde(skip)]
    pub(crate) title: &'static str,
    pub(crate) load: &'static str,
    pub(crate) cpu_s_per_100k: f64,
    pub(crate) rps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) rss_mb: f64,
    pub(crate) ratio_to_baseline: f64,
}

/// The results of one contestant, by round.
struct Measured {
    contestant: Contestant,
    child: Child,
    question: Question,
    cpu: Vec<f64>,
    rps: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) fn run(server: &NatsServer, options: &Options<'_>) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for load in loads(options.nest) {
        let measured = measure(server, &load, options)?;
        let of_load = summarise(&load, &measured)?;
        print(&load, &of_load);
        targets.extend(judge(&load, &measured));
        rows.extend(of_load);
    }
    print_targets(&targets);
    if !cfg!(feature = "peers") {
        println!("\nother frameworks for Rust were not measured: that needs `--features peers`");
    }
    if !options.nest {
        println!("NestJS was not measured: that needs `--nest`, Node and npm");
    }
    if let Some(path) = options.picture {
        let of = |load| rows.iter().filter(move |row| row.load == load);
        let plain = of(ECHO).map(|row| (row.title.to_owned(), row));
        let enveloped = of(ENVELOPE).map(|row| (format!("{}, in NestJS's envelope", row.title), row));
        picture::write(path, ECHO, &plain.chain(enveloped).collect::<Vec<_>>())?;
        println!("\nthe picture is {}", path.display());
    }
    if let Some(path) = options.readme {
        readme::replace(path, "rpc", &matrix(&rows).markdown())?;
    }
    write_json("rpc", &rows)
}

fn measure(server: &NatsServer, load: &Load, options: &Options<'_>) -> Result<Vec<Measured>, Box<dyn Error>> {
    let mut loader = Loader::connect(server.port())?;
    let mut measured = Vec::new();
    for &contestant in load.contestants {
        if contestant == Contestant::Ruststream && !cfg!(feature = "peers") {
            continue;
        }
        let job = Job::new(contestant, load.work, contestant.name());
        let child = job.start(&server.url())?;
        let question = question(&job.subject(), load.kind)?;
        let failed = |error| format!("{}, {}: {error}", contestant.name(), load.name);
        loader.wait_for_answer(&question, ROUND).map_err(failed)?;
        let warm_up = WARM_UP.min(options.requests);
        loader.ask(std::slice::from_ref(&question), warm_up, load.in_flight, ROUND).map_err(failed)?;
        let empty = Vec::new;
        measured.push(Measured { contestant, child, question, cpu: empty(), rps: empty(), p50: empty(), p99: empty() });
    }
    for round in 0..options.rounds {
        // Each round begins with another contestant, so that none always runs after the same one.
        measured.rotate_left(1);
        for each in &mut measured {
            let failed = |error| format!("{}, {}, round {round}: {error}", each.contestant.name(), load.name);
            let before = each.child.cpu()?;
            let questions = std::slice::from_ref(&each.question);
            let run = loader.ask(questions, options.requests, load.in_flight, ROUND).map_err(failed)?;
            let used = each.child.cpu()? - before;
            each.cpu.push(used.as_secs_f64() * 100_000.0 / options.requests as f64);
            each.rps.push(run.per_second());
            each.p50.push(run.latency_us(50.0).into());
            each.p99.push(run.latency_us(99.0).into());
        }
    }
    measured.sort_by_key(|each| load.contestants.iter().position(|known| *known == each.contestant));
    Ok(measured)
}

fn find(measured: &[Measured], contestant: Contestant) -> Option<&Measured> {
    measured.iter().find(|each| each.contestant == contestant)
}

fn summarise(load: &Load, measured: &[Measured]) -> Result<Vec<Row>, Box<dyn Error>> {
    let baseline = find(measured, load.baseline).ok_or("the baseline was not measured")?;
    let row = |each: &Measured| {
        Ok(Row {
            contestant: each.contestant.name(),
            title: each.contestant.title(),
            load: load.name,
            cpu_s_per_100k: median(&each.cpu),
            rps: median(&each.rps),
            p50_us: median(&each.p50),
            p99_us: median(&each.p99),
            rss_mb: each.child.memory()?.now,
            ratio_to_baseline: paired_ratio(&each.cpu, &baseline.cpu),
        })
    };
    measured.iter().map(row).collect()
}

fn print(load: &Load, rows: &[Row]) {
    let ratio = format!("CPU / {}", load.baseline.name());
    let head = ["", "CPU-s per 100k", &ratio, "requests/s", "p50 µs", "p99 µs", "RSS MB"];
    let mut table = Table::new(load.name, &head);
    for row in rows {
        table.row([
            row.contestant.to_owned(),
            format!("{:.3}", row.cpu_s_per_100k),
            format!("{:.3}", row.ratio_to_baseline),
            format!("{:.0}", row.rps),
            format!("{:.0}", row.p50_us),
            format!("{:.0}", row.p99_us),
            format!("{:.1}", row.rss_mb),
        ]);
    }
    table.print();
}

/// Returns the ratios of all loads, with the CPU seconds that they derive from.
fn matrix(rows: &[Row]) -> Matrix {
    let mut matrix = Matrix::new();
    for row in rows {
        let cell = format!("{:.2} ({:.3})", row.ratio_to_baseline, row.cpu_s_per_100k);
        matrix.put(row.title, row.load, cell);
    }
    matrix
}

/// Compares this load's results with its targets.
fn judge(load: &Load, measured: &[Measured]) -> Vec<Target> {
    use Contestant::{Fu, Guarded, Nest, NestGuarded, Ours, Ruststream, Scoped, Serial, Service, Spawn};
    let cpu: &[(Contestant, Contestant, f64)] = match load.name {
        ECHO => {
            &[(Ours, Serial, 1.10), (Ours, Service, 1.0), (Ours, Fu, 1.0), (Ours, Ruststream, 1.0), (Ours, Spawn, 0.40)]
        }
        SLEEP => &[(Ours, Fu, 0.95)],
        HEADERS => &[(Guarded, Serial, 1.12), (Scoped, Serial, 1.12)],
        ENVELOPE => &[(Ours, Nest, 1.0 / 8.0)],
        GUARDED => &[(Guarded, NestGuarded, 1.0 / 6.0), (Scoped, NestGuarded, 1.0 / 6.0)],
        _ => &[],
    };
    let target = |what: &str, ours: Contestant, other: Contestant, values: fn(&Measured) -> &[f64], at_most: f64| {
        let (mine, theirs) = (find(measured, ours)?, find(measured, other)?);
        let what = format!("{}: {what} of {} to {}", load.name, ours.name(), other.name());
        Some(Target::new(what, paired_ratio(values(mine), values(theirs)), at_most))
    };
    let mut targets: Vec<Target> = cpu
        .iter()
        .filter_map(|&(ours, other, at_most)| target("CPU", ours, other, |each| &each.cpu, at_most))
        .collect();
    if load.name == ECHO {
        targets.extend(target("p99", Ours, Serial, |each| &each.p99, 1.15));
    }
    targets
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::contestant;

    /// Serves in this process, as a contestant's process would, until `stopped` is ready.
    fn serve(job: &Job, url: &str, stopped: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            tokio::select! {
                ended = contestant::serve(job, url) => panic!("{} ended: {ended:?}", job.contestant.name()),
                _ = stopped => {}
            }
        });
    }

    #[test]
    fn every_contestant_answers_all_questions_of_its_loads() {
        let server = nats_rpc_tests::server();
        let mut loader = Loader::connect(server.port()).expect("connected");
        for load in loads(false) {
            let measured = load.contestants.iter().filter(|&&each| each != Contestant::Ruststream);
            for &contestant in measured {
                let job = Job::new(contestant, load.work, contestant.name());
                let question = question(&job.subject(), load.kind).expect("a question");
                let (stop, stopped) = oneshot::channel();
                let url = server.url();
                let service = std::thread::spawn(move || serve(&job, &url, stopped));
                let failed = |error| panic!("{}, {}: {error}", contestant.name(), load.name);
                loader.wait_for_answer(&question, ROUND).unwrap_or_else(failed);
                let run = loader.ask(std::slice::from_ref(&question), 500, load.in_flight, ROUND);
                assert_eq!(run.map(|run| run.requests).map_err(|error| error.to_string()), Ok(500));
                stop.send(()).expect("the service runs");
                service.join().expect("the service ends");
            }
        }
    }

    #[test]
    fn a_cell_has_the_ratio_and_what_it_is_of() {
        let row = Row {
            contestant: "nats-rpc",
            title: "nats-rpc",
            load: ECHO,
            cpu_s_per_100k: 0.1754,
            rps: 0.0,
            p50_us: 0.0,
            p99_us: 0.0,
            rss_mb: 0.0,
            ratio_to_baseline: 1.066,
        };
        assert!(matrix(&[row]).markdown().ends_with("| nats-rpc | 1.07 (0.175) |\n"));
    }
}
