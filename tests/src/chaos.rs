//! What the framework promises under load and faults, tried on real nats-servers.
//!
//! Each scenario is a file here; `cargo run --release -p nats-rpc-tests --bin chaos` runs them in full and
//! prints what was counted beside what was expected. The integration tests run the same code, shorter.

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

/// How long any scenario may take, in full and short: several times what the longest does.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const SHORT_LIMIT: Duration = Duration::from_secs(3 * 60);

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A few seconds in place of minutes: fewer rounds, the same expectations.
    pub short: bool,
    /// Where all that is random starts from.
    pub seed: u64,
}

impl Options {
    /// `full` of something, or `short`.
    fn pick<T>(self, full: T, short: T) -> T {
        if self.short { short } else { full }
    }

    /// How late an end may be noticed on a machine that is busy elsewhere, as those that test are.
    fn grace(self) -> Duration {
        self.pick(Duration::from_millis(250), Duration::from_secs(1))
    }

    fn random(self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

/// One kind of adversity.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens, in a line.
    pub about: &'static str,
    run: fn(Options) -> Vec<Row>,
}

impl Scenario {
    /// Every scenario, in the order in which they are told.
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

    /// The scenario called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name == name)
    }

    /// Runs it, which takes from seconds to minutes, in runtimes of its own. One that does not end is left
    /// where it is, and has failed.
    ///
    /// # Panics
    /// If there is no nats-server, or if something fails that is no part of what is tried.
    pub fn run(self, options: Options) -> Report {
        let limit = options.pick(LIMIT, SHORT_LIMIT);
        let (done, ended) = mpsc::channel();
        let playing = thread::spawn(move || {
            // Nobody listens only after the limit.
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
