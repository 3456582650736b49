//! The log of a program.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sends the log to standard error, at the levels in `RUST_LOG`, or at `default`.
///
/// [`Service::main`](crate::Service::main) calls it automatically. It does nothing if the program has already set up
/// its own logging.
///
/// async-nats stays at INFO unless `RUST_LOG` names it: at DEBUG it logs whole records that it reads from JetStream,
/// including password hashes.
///
/// ```
/// nats_rpc::log_to_stderr("info");
/// tracing::info!("ready");
/// ```
pub fn log_to_stderr(default: &str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let log = tracing_subscriber::fmt().with_env_filter(filter(&wanted, default)).with_writer(std::io::stderr);
    // An error means that a logger is already set.
    let _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
}

fn filter(wanted: &str, default: &str) -> EnvFilter {
    let chosen = EnvFilter::try_new(wanted).ok().filter(|_| !wanted.is_empty());
    let filter = chosen.unwrap_or_else(|| EnvFilter::new(default));
    let reaches_records = filter.max_level_hint().is_none_or(|level| level > LevelFilter::INFO);
    match "async_nats=info".parse() {
        Ok(quiet) if reaches_records && !wanted.contains("async_nats") => filter.add_directive(quiet),
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_nats_logs_its_records_only_if_it_is_named() {
        let quiet = |wanted| filter(wanted, "info").to_string().contains("async_nats=info");
        assert!(quiet("debug") && quiet("trace") && quiet("nats_rpc=debug,warn"));
        assert!(!quiet("debug,async_nats=debug"));
        assert!(!quiet("warn") && !quiet("") && !quiet("no=such=level"));
    }
}
