use std::error::Error;
use std::process::Command;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Contestant, Work};
use crate::child::Child;
use crate::nest;
use crate::token::SECRET;

/// Startup timeout of a contestant; under Valgrind a startup takes seconds.
const START: Duration = Duration::from_secs(60);

/// The job of one process.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) contestant: Contestant,
    pub(crate) work: Work,
    /// The first token of its subjects, distinct so that several processes can serve at the same time.
    pub(crate) prefix: String,
    /// The limit of concurrent handlers, if the contestant has one.
    pub(crate) concurrency: usize,
    /// The number of routes to serve.
    pub(crate) routes: usize,
    pub(crate) one_thread: bool,
}

impl Job {
    pub(crate) fn new(contestant: Contestant, work: Work, prefix: impl Into<String>) -> Self {
        Self { contestant, work, prefix: prefix.into(), concurrency: 256, routes: 1, one_thread: false }
    }

    /// Returns the subject of its handler.
    pub(crate) fn subject(&self) -> String {
        match self.contestant {
            Contestant::Nest => "echo".to_owned(),
            Contestant::NestGuarded => "secure.echo".to_owned(),
            Contestant::Ruststream => "ruststream.echo".to_owned(),
            _ => format!("{}.{}", self.prefix, self.work.name()),
        }
    }

    /// Returns the subjects of all its routes.
    pub(crate) fn subjects(&self) -> Vec<String> {
        match self.routes {
            1 => vec![self.subject()],
            routes => (0..routes).map(|index| format!("{}.{}", self.prefix, route_name(index))).collect(),
        }
    }

    /// Starts a process for the job.
    pub(crate) fn start(&self, url: &str) -> Result<Child, Box<dyn Error>> {
        let command = match self.contestant.is_nest() {
            true => nest::command()?,
            false => self.command(Command::new(std::env::current_exe()?)),
        };
        self.start_with(command, url)
    }

    /// Starts one as [`start`](Self::start) does, with a given command.
    pub(crate) fn start_with(&self, mut command: Command, url: &str) -> Result<Child, Box<dyn Error>> {
        command.env("NATS_URL", url).env("JWT_SECRET", SECRET);
        Child::start(self.contestant.name(), command, START)
    }

    /// Adds the arguments that make `program`, the bench itself, do the job.
    pub(crate) fn command(&self, mut program: Command) -> Command {
        program.args(["contestant", self.contestant.name(), self.work.name(), &self.prefix]);
        program.arg(format!("--concurrency={}", self.concurrency)).arg(format!("--routes={}", self.routes));
        if self.one_thread {
            program.arg("--one-thread");
        }
        program
    }

    /// Returns the hidden command that starts a contestant's process.
    pub(crate) fn cli() -> clap::Command {
        clap::Command::new("contestant").hide(true).args([
            Arg::new("contestant").required(true),
            Arg::new("work").required(true),
            Arg::new("prefix").required(true),
            Arg::new("concurrency").long("concurrency").value_parser(value_parser!(usize)).default_value("256"),
            Arg::new("routes").long("routes").value_parser(value_parser!(usize)).default_value("1"),
            Arg::new("one-thread").long("one-thread").action(ArgAction::SetTrue),
        ])
    }

    pub(crate) fn from_cli(matches: &ArgMatches) -> Option<Self> {
        let text = |name: &str| matches.get_one::<String>(name);
        Some(Self {
            contestant: Contestant::by_name(text("contestant")?)?,
            work: Work::by_name(text("work")?)?,
            prefix: text("prefix")?.clone(),
            concurrency: *matches.get_one("concurrency")?,
            routes: *matches.get_one("routes")?,
            one_thread: matches.get_flag("one-thread"),
        })
    }
}

/// Returns the subject of one of many routes, without the prefix; all have the same length.
pub(super) fn route_name(index: usize) -> String {
    format!("r{index:03}")
}
