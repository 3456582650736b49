//! `instructions`: the number of instructions per request, counted by Valgrind's callgrind.
//!
//! Unlike CPU seconds, the figure is reproducible, even on a shared machine. It does not include system calls.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nats_rpc::testing::NatsServer;
use serde::Serialize;

use crate::contestant::{Contestant, Job, Work};
use crate::load::{Loader, Question};
use crate::readme::{self, Matrix};
use crate::report::{Table, Target, folder, print_targets, write_json};
use crate::rpc::{Kind, question};
use crate::stats::slope;

/// The smaller of the two counts of requests.
const FEW: usize = 1_000;
const IN_FLIGHT: usize = 64;
/// Timeout of one count.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
struct Row {
    contestant: &'static str,
    load: &'static str,
    instructions_per_request: f64,
    ratio_to_baseline: f64,
}

/// Returns `true` if Valgrind is installed.
pub(crate) fn are_countable() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

pub(crate) fn run(server: &NatsServer, requests: usize, readme: Option<&Path>) -> Result<(), Box<dyn Error>> {
    use Contestant::{Fu, Guarded, Ours, Ruststream, Scoped, Serial, Service, Spawn};
    if !are_countable() {
        return Err("instructions are counted by Valgrind, which is not installed: install the package \
                    `valgrind` of your system"
            .into());
    }
    let loads: [(&str, Kind, &[Contestant]); 3] = [
        ("echo", Kind::Bare, &[Serial, Fu, Spawn, Service, Ours, Ruststream]),
        ("echo with three headers", Kind::Headers, &[Serial, Service, Ours, Guarded, Scoped]),
        ("echo in NestJS's envelope", Kind::Envelope, &[Ours]),
    ];
    let mut rows: Vec<Row> = Vec::new();
    let mut targets = Vec::new();
    let mut matrix = Matrix::new();
    let mut plain = None;
    for (load, kind, contestants) in loads {
        // No hand-written loop reads envelopes, so the plain echo is the baseline of that load.
        let mut baseline = plain.unwrap_or(f64::NAN);
        let mut table = Table::new(format!("{load}, {IN_FLIGHT} in flight"), &["", "instructions", "/ serial"]);
        for &contestant in contestants {
            if contestant == Ruststream && !cfg!(feature = "peers") {
                continue;
            }
            let job = Job { one_thread: true, ..Job::new(contestant, Work::Echo, "bench") };
            let file = format!("{}.{kind:?}", contestant.name()).to_lowercase();
            let count = per_request(server, &job, &question(&job.subject(), kind)?, requests, &file)?;
            if contestant == Serial {
                baseline = count;
                plain.get_or_insert(count);
            }
            let ratio = count / baseline;
            let at_most = match (contestant, kind) {
                (Ours, Kind::Bare) => Some(1.07),
                (Guarded | Scoped, Kind::Headers) => Some(1.12),
                _ => None,
            };
            let what = format!("{load}: instructions of {} to serial", contestant.name());
            targets.extend(at_most.map(|at_most| Target::new(what, ratio, at_most)));
            table.row([contestant.name().to_owned(), format!("{count:.0}"), format!("{ratio:.3}")]);
            matrix.put(contestant.title(), load, format!("{ratio:.2} ({count:.0})"));
            rows.push(Row {
                contestant: contestant.name(),
                load,
                instructions_per_request: count,
                ratio_to_baseline: ratio,
            });
        }
        table.print();
    }
    print_targets(&targets);
    println!("\ncallgrind's files are in {}", folder()?.display());
    if let Some(path) = readme {
        readme::replace(path, "instructions", &matrix.markdown())?;
    }
    write_json("instructions", &rows)
}

/// Returns the instructions of one more request; callgrind's files are named after `file`.
pub(crate) fn per_request(
    server: &NatsServer,
    job: &Job,
    question: &Question,
    requests: usize,
    file: &str,
) -> Result<f64, Box<dyn Error>> {
    let count = |requests: usize| -> Result<(u64, u64), Box<dyn Error>> {
        let file = folder()?.join(format!("callgrind.{file}.{requests}"));
        Ok((requests as u64, count(server, job, question, requests, &file)?))
    };
    Ok(slope(count(FEW)?, count(requests.max(FEW + 1))?))
}

/// Counts the instructions of a whole process that replies to `requests` requests.
fn count(
    server: &NatsServer,
    job: &Job,
    question: &Question,
    requests: usize,
    file: &Path,
) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display())).arg(std::env::current_exe()?);
    let child = job.start_with(job.command(valgrind), &server.url())?;
    let mut loader = Loader::connect(server.port())?;
    loader.ask(std::slice::from_ref(question), requests, IN_FLIGHT, LIMIT)?;
    child.stop()?;
    total(file)
}

fn total(file: &Path) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    total_of(&text).ok_or_else(|| format!("callgrind left no sum in {}", file.display()).into())
}

fn total_of(text: &str) -> Option<u64> {
    let sum = text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    sum.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total_of;

    #[test]
    fn the_sum_of_a_callgrind_file_is_found() {
        assert_eq!(total_of("version: 1\nevents: Ir\nsummary: 12345\n\nfn=(1) main\n1 2\n"), Some(12_345));
        assert_eq!(total_of("fn=(1) main\n1 2\ntotals: 77\n"), Some(77));
        assert_eq!(total_of("events: Ir\n"), None);
    }
}
