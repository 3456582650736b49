//! Chaos scenarios: the framework's guarantees under load and faults, tested on real nats-servers.
//!
//! Each scenario is a file here. `cargo run --release -p nats-rpc-tests --bin chaos` runs them in full and prints the
//! counts next to the expected ones. The integration tests run shorter versions of the same code.

mod auth;
mod cluster;
mod hostile;
mod load;
mod memory;
mod neighbours;
mod overload;
mod poison;
mod report;
mod rolling;
mod server_faults;
mod stage;
mod storm;
mod streams;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub use self::report::{Report, Row};

/// Maximum time of a scenario, full or short: several times the duration of the longest.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const SHORT_LIMIT: Duration = Duration::from_secs(3 * 60);

/// Options of a scenario run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Runs a few seconds instead of minutes: fewer rounds, the same expectations.
    pub short: bool,
    /// Seed of all randomness.
    pub seed: u64,
}

impl Options {
    /// Returns `full` or `short`, by the length of the run.
    fn pick<T>(self, full: T, short: T) -> T {
        if self.short { short } else { full }
    }

    /// Returns the tolerated delay in the detection of an end, longer on a busy machine, such as one that runs tests.
    fn grace(self) -> Duration {
        self.pick(Duration::from_millis(250), Duration::from_secs(1))
    }

    fn random(self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

/// One kind of load or fault.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// A one-line description.
    pub about: &'static str,
    run: fn(Options) -> Vec<Row>,
}

impl Scenario {
    /// Every scenario, in the order of the output.
    pub const ALL: [Self; 11] = [
        Self { name: "rolling", about: "instances are replaced under load", run: rolling::run },
        Self { name: "server", about: "nats-server dies, freezes, leaves", run: server_faults::run },
        Self { name: "overload", about: "twice as many requests as can be served", run: overload::run },
        Self { name: "hostile", about: "bytes that no client would send", run: hostile::run },
        Self { name: "poison", about: "messages that end async-nats' connection", run: poison::run },
        Self { name: "storm", about: "handlers panic, hang, answer too much", run: storm::run },
        Self { name: "streams", about: "streams under cuts, restarts and stops", run: streams::run },
        Self { name: "cluster", about: "one of three nodes dies or leaves", run: cluster::run },
        Self {
            name: "auth",
            about: "sessions and revocations while all refresh, a node dies, nothing arrives",
            run: auth::run,
        },
        Self { name: "neighbours", about: "a slow handler beside a fast one", run: neighbours::run },
        Self { name: "memory", about: "what a million requests leave behind", run: memory::run },
    ];

    /// Returns the scenario called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name == name)
    }

    /// Runs the scenario in its own runtimes, which takes from seconds to minutes. One that does not end is abandoned
    /// and counts as failed.
    ///
    /// # Panics
    /// If there is no nats-server, or if a step outside the tested behaviour fails.
    pub fn run(self, options: Options) -> Report {
        let limit = options.pick(LIMIT, SHORT_LIMIT);
        let (done, ended) = mpsc::channel();
        let playing = thread::spawn(move || {
            // The receiver is gone only after the time limit.
            let _ = done.send((self.run)(options));
        });
        let rows = match ended.recv_timeout(limit) {
            Ok(rows) => rows,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                vec![Row::new("the whole", "ends", false, format!("no end within {limit:?}"))]
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let panicked = playing.join().expect_err("it ended without rows");
                std::panic::resume_unwind(panicked)
            }
        };
        Report { scenario: self.name, rows }
    }
}
