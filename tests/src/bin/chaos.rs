//! Runs the chaos scenarios, and prints their counts.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::{Arg, ArgAction, value_parser};
use nats_rpc_tests::chaos::{Options, Scenario};

/// Default of `--seed`.
const SEED: &str = "1";

fn main() -> io::Result<ExitCode> {
    let names: Vec<_> = Scenario::ALL.iter().map(|scenario| scenario.name).collect();
    let list: String =
        Scenario::ALL.iter().map(|scenario| format!("  {:11} {}\n", scenario.name, scenario.about)).collect();
    let matches = clap::Command::new("chaos")
        .about("Tries what nats-rpc promises under load and faults. Exit status 1: a promise was broken.")
        .after_help(format!("Scenarios:\n{list}"))
        .arg(
            Arg::new("scenario")
                .num_args(0..)
                .value_parser(names)
                .hide_possible_values(true)
                .help("All if none is named"),
        )
        .arg(Arg::new("short").long("short").action(ArgAction::SetTrue).help("Seconds in place of minutes"))
        .arg(
            Arg::new("seed")
                .long("seed")
                .default_value(SEED)
                .value_parser(value_parser!(u64))
                .help("What randomness starts from"),
        )
        .get_matches();
    let options =
        Options { short: matches.get_flag("short"), seed: matches.get_one("seed").copied().expect("it has a default") };
    let named: Vec<_> = matches.get_many::<String>("scenario").into_iter().flatten().collect();
    match named.as_slice() {
        [name] => run(Scenario::named(name).expect("clap knows the names"), options),
        [] => run_each(Scenario::ALL.map(|scenario| scenario.name), options),
        several => run_each(several.iter().map(|name| name.as_str()), options),
    }
}

fn run(scenario: Scenario, options: Options) -> io::Result<ExitCode> {
    let began = Instant::now();
    let report = scenario.run(options);
    writeln!(io::stdout(), "{report}\nseed {}, {:.0} s\n", options.seed, began.elapsed().as_secs_f64())?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs each scenario in a separate process, so that its memory and panics do not affect the next one.
fn run_each(names: impl IntoIterator<Item = impl AsRef<str>>, options: Options) -> io::Result<ExitCode> {
    let mut failed = Vec::new();
    for name in names {
        let name = name.as_ref();
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, "--seed", &options.seed.to_string()]);
        if options.short {
            command.arg("--short");
        }
        if !command.status()?.success() {
            failed.push(name.to_owned());
        }
    }
    match failed.is_empty() {
        true => writeln!(io::stdout(), "every scenario is as expected")?,
        false => writeln!(io::stdout(), "not as expected: {}", failed.join(", "))?,
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
