//! The demo binary: `cargo demo` runs the system step by step, `cargo demo -- --serve` keeps it up for experiments.

use std::process::ExitCode;

const USAGE: &str = "usage: cargo demo [-- --serve]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => run(demo::walk_through()),
        ["--serve"] => run(demo::serve()),
        [demo::OBTAIN] => demo::obtain_here(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(job: impl Future<Output = ExitCode>) -> ExitCode {
    nats_rpc::log_to_stderr("warn");
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(job),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
