//! Prints the path of a nats-server, obtaining one if needed, for scripts and manual use.

use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    match nats_rpc_tests::nats_server::path() {
        Ok(path) => match writeln!(io::stdout(), "{}", path.display()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
