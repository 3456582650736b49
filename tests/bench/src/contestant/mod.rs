//! The measured programs, and the process that each of them runs in.

mod job;
mod many;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod reference;

use std::error::Error;
use std::future::pending;
use std::io::{self, Read};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::job::Job;
use crate::child::READY;

/// A measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// async-nats alone: echoes the bytes.
    Floor,
    /// A hand-written loop that handles one message after the other.
    Serial,
    /// A hand-written loop whose handlers run in a `FuturesUnordered`.
    Fu,
    /// A hand-written loop that spawns a task for each message.
    Spawn,
    /// async-nats' own `service`.
    Service,
    /// nats-rpc.
    Ours,
    /// nats-rpc behind `JwtGuard`.
    Guarded,
    /// nats-rpc behind `JwtGuard` and `RequireScope`, with `Auth` and `State`.
    Scoped,
    /// Another framework for Rust.
    Ruststream,
    /// NestJS, which is not a child process of this program's kind.
    Nest,
    /// NestJS behind a guard that verifies the token.
    NestGuarded,
}

impl Contestant {
    pub(crate) const ALL: [Self; 11] = [
        Self::Floor,
        Self::Serial,
        Self::Fu,
        Self::Spawn,
        Self::Service,
        Self::Ours,
        Self::Guarded,
        Self::Scoped,
        Self::Ruststream,
        Self::Nest,
        Self::NestGuarded,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Serial => "serial",
            Self::Fu => "fu",
            Self::Spawn => "spawn",
            Self::Service => "service",
            Self::Ours => "nats-rpc",
            Self::Guarded => "nats-rpc-guarded",
            Self::Scoped => "nats-rpc-scoped",
            Self::Ruststream => "ruststream",
            Self::Nest => "nestjs",
            Self::NestGuarded => "nestjs-guarded",
        }
    }

    /// Returns its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Floor => "async-nats alone, no JSON",
            Self::Serial => "hand-written, one by one",
            Self::Fu => "hand-written, FuturesUnordered",
            Self::Spawn => "hand-written, a task each",
            Self::Service => "service of async-nats",
            Self::Ours => "nats-rpc",
            Self::Guarded => "nats-rpc, JwtGuard",
            Self::Scoped => "nats-rpc, JwtGuard, scope, State",
            Self::Ruststream => "ruststream",
            Self::Nest => "NestJS",
            Self::NestGuarded => "NestJS, JWT guard",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    pub(crate) fn is_nest(self) -> bool {
        matches!(self, Self::Nest | Self::NestGuarded)
    }
}

/// The work of a handler before it returns its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing.
    Echo,
    /// Waits 1 ms.
    Sleep,
    /// Waits 5 ms.
    Doze,
    /// Computes for some 100 µs.
    Burn,
}

impl Work {
    const ALL: [Self; 4] = [Self::Echo, Self::Sleep, Self::Doze, Self::Burn];

    /// Returns the last token of the subject.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Sleep => "sleep",
            Self::Doze => "doze",
            Self::Burn => "burn",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    async fn done(self) {
        match self {
            Self::Echo => {}
            Self::Sleep => tokio::time::sleep(Duration::from_millis(1)).await,
            Self::Doze => tokio::time::sleep(Duration::from_millis(5)).await,
            Self::Burn => burn(),
        }
    }
}

/// Does a fixed amount of work, independent of the machine's load.
fn burn() {
    let mut state = 1_u64;
    for _ in 0..50_000 {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// The data of requests and replies.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "peers", derive(ruststream_nats::prelude::Outgoing))]
struct User {
    id: u64,
    name: String,
}

/// Runs `job` in this process until its standard input closes.
pub(crate) fn run(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut runtime = match job.one_thread {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(job, url))
}

/// Serves; returns only on failure.
pub(crate) async fn serve(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    match job.contestant {
        Contestant::Ours | Contestant::Guarded | Contestant::Scoped if job.routes > 1 => many::run(job, url).await,
        Contestant::Ours | Contestant::Guarded | Contestant::Scoped => ours::run(job, url).await,
        Contestant::Ruststream => peer(job, url).await,
        Contestant::Nest | Contestant::NestGuarded => Err("NestJS runs in a process of Node's".into()),
        _ => reference::run(job, url).await,
    }
}

#[cfg(feature = "peers")]
async fn peer(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    peers::run(job, url).await
}

#[cfg(not(feature = "peers"))]
async fn peer(_: &Job, _: &str) -> Result<(), Box<dyn Error>> {
    Err("other frameworks are measured with `--features peers`".into())
}

/// Prints that the service is ready, and waits.
async fn ready() -> Result<(), Box<dyn Error>> {
    println!("{READY}");
    pending().await
}
