//! Benchmarks: the cost of a request, compared with hand-written loops and other frameworks.
//!
//! ```text
//! cargo run --release -p nats-rpc-bench -- rpc             CPU, throughput, latency
//! cargo run --release -p nats-rpc-bench -- instructions    instructions per request
//! cargo run --release -p nats-rpc-bench -- start           start to first answer, memory
//! cargo run --release -p nats-rpc-bench -- routes          one to a thousand routes
//! cargo run --release -p nats-rpc-bench -- overload        twice the capacity
//! cargo run --release -p nats-rpc-bench -- auth            verifying, refreshing, revoking, logging in
//! cargo run --release -p nats-rpc-bench -- watch           3,000 services that watch revocations
//! ```
//!
//! `rpc --nest` also measures NestJS, `--features peers` another Rust framework. `--features mimalloc` runs all Rust
//! programs with that allocator instead of the system's. `rpc` and `instructions` write their tables into a page with
//! `--readme docs/performance.md`.
//!
//! Each contestant is a separate process, so that its CPU time and memory can be measured alone; the load generator is
//! this process. The CPU time of threads is read from `/proc`, so this runs on Linux only. Absolute times depend on
//! the machine and its other load: compare the ratios.
#![allow(clippy::print_stdout, reason = "a bench prints its tables")]

mod auth;
mod child;
mod contestant;
mod instructions;
mod load;
mod nest;
mod overload;
mod picture;
mod readme;
mod report;
mod routes;
mod rpc;
mod start;
mod stats;
mod token;
mod watch;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::contestant::Job;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&cli().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        let positive = RangedU64ValueParser::<usize>::new().range(1..);
        Arg::new(name).long(name).value_parser(positive).default_value(default).help(help)
    };
    let nest = || Arg::new("nest").long("nest").action(ArgAction::SetTrue).help("Measures NestJS too; needs Node, npm");
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(PathBuf)).value_name("FILE").help(help)
    };
    let readme = || file("readme", "Replaces the figures in it by those of this run");
    Command::new("nats-rpc-bench").about("What a request costs").subcommand_required(true).subcommands([
        Command::new("rpc").about("CPU, throughput and latency of every contestant").args([
            nest(),
            number("rounds", "5", "How often each contestant is measured"),
            number("requests", "100000", "Requests of one round"),
            file("picture", "Draws the latencies, as SVG"),
            readme(),
        ]),
        Command::new("instructions")
            .about("Instructions per request, by Valgrind")
            .args([number("requests", "11000", "The larger of the two counts that are compared"), readme()]),
        Command::new("start")
            .about("Start to first answer; memory then and later")
            .args([nest(), number("requests", "1000000", "Requests before memory is read again")]),
        Command::new("routes").about("Cost of a request and of a route, 1 to 1,000 routes").args([
            number("rounds", "5", "How often each number of routes is measured"),
            number("requests", "50000", "Requests of one round"),
        ]),
        Command::new("overload").about("What callers get at twice the capacity"),
        Command::new("auth").about("Verifying, refreshing, revoking, logging in"),
        Command::new("watch").about("3,000 services that watch revocations and keys").args([
            number("watchers", "3000", "Services that watch without consumers"),
            number("consumers", "900", "Services that watch with a consumer each, on a server of their own"),
        ]),
        Command::new(auth::SERVICE).hide(true),
        Job::cli(),
    ])
}

fn run(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let Some((name, matches)) = matches.subcommand() else { return Err("no command".into()) };
    if name == "contestant" {
        let job = Job::from_cli(matches).ok_or("there is no such contestant")?;
        return contestant::run(&job, &std::env::var("NATS_URL")?);
    }
    if name == auth::SERVICE {
        return auth::serve(&std::env::var("NATS_URL")?);
    }
    let count = |name: &str| matches.get_one::<usize>(name).copied().unwrap_or(1).max(1);
    let file = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
    if name == "watch" {
        return watch::run(nats_rpc_tests::server, count("watchers"), count("consumers"));
    }
    let server = nats_rpc_tests::server();
    match name {
        "rpc" => {
            let options = rpc::Options {
                nest: matches.get_flag("nest"),
                rounds: count("rounds"),
                requests: count("requests"),
                picture: file("picture"),
                readme: file("readme"),
            };
            rpc::run(&server, &options)
        }
        "instructions" => instructions::run(&server, count("requests"), file("readme")),
        "start" => start::run(&server, matches.get_flag("nest"), count("requests")),
        "routes" => routes::run(&server, count("rounds"), count("requests")),
        "auth" => auth::run(&server),
        _ => overload::run(&server),
    }
}
