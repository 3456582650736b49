//! The command line of every service.

mod nkey;
mod panics;
mod routes;
mod signals;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use futures::future::BoxFuture;

use self::routes::routes_table;
use self::signals::Signals;
use super::blocking;
use super::setup::{BoxError, Provided};
use super::{Service, ServiceContext, StartError};
use crate::connection::{Connection, NatsConfig};

/// The exit statuses.
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// The time that `health` waits for its echo.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// A service-specific command.
pub(super) struct CustomCommand {
    name: &'static str,
    about: &'static str,
    work: Work,
}

type Work = Box<dyn FnOnce(ServiceContext, Vec<String>) -> BoxFuture<'static, Result<(), BoxError>> + Send>;

impl CustomCommand {
    pub(super) fn new<F, Fut, E>(name: &'static str, about: &'static str, work: F) -> Self
    where
        F: FnOnce(ServiceContext, Vec<String>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let work = Box::new(move |config, arguments| -> BoxFuture<'static, Result<(), BoxError>> {
            let done = work(config, arguments);
            Box::pin(async move { done.await.map_err(Into::into) })
        });
        Self { name, about, work }
    }
}

impl Service {
    /// Runs the service as a program: parses the command line, reads the environment, sets up the log, serves.
    ///
    /// | command | does |
    /// |---|---|
    /// | `serve` (or none) | serves until SIGTERM or Ctrl-C, then shuts down gracefully without losing a request; a second signal ends the process at once |
    /// | `routes` | prints subject, handler, guards, queue group, schema hashes and source location of each handler; needs no server |
    /// | `permissions` | prints the permissions that the service's user needs in the configuration of nats-server; needs no server |
    /// | `nkey <file>` | writes the seed of a new nkey to a file and prints its public half; needs no server |
    /// | `provision` | creates the JetStream resources that the service needs |
    /// | `health` | exits 0 if an echo through nats-server comes back within 3 s |
    ///
    /// The connection is the one of [`NatsConfig::from_env`]. The log is written to standard error; `RUST_LOG` sets
    /// its level (default `info`); see [`log_to_stderr`](crate::log_to_stderr).
    ///
    /// The function sets a panic hook. The hook writes one line for a panic of async-nats, at most one per second, and
    /// passes all other panics to the previous hook. The function ends the process itself at a second signal, and if
    /// work of [`spawn_blocking`](crate::spawn_blocking) still runs after shutdown: the runtime would wait for that
    /// work without limit.
    pub async fn main(self) -> ExitCode {
        super::log_to_stderr("info");
        panics::log_those_of_async_nats();
        let status = self.run_command().await.unwrap_or_else(|error| {
            report(&error);
            FAILURE
        });
        if blocking::is_underway() {
            tracing::warn!("blocking work still runs; it ends with the process");
            std::process::exit(status.into());
        }
        ExitCode::from(status)
    }

    /// Runs the selected command; returns the exit status.
    async fn run_command(mut self) -> Result<u8, StartError> {
        let matches = match self.command_line().try_get_matches() {
            Ok(matches) => matches,
            Err(error) => {
                // Help and version go to standard output, errors to standard error. A closed pipe is not an error of
                // the command.
                let _ = error.print();
                return Ok(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        match matches.subcommand() {
            Some(("routes", _)) => self.print_routes()?,
            Some(("permissions", _)) => self.print_permissions()?,
            Some(("nkey", arguments)) => print_new_nkey(arguments)?,
            Some(("provision", _)) => self.run_provision().await?,
            Some(("health", _)) => return self.health().await,
            Some((name, arguments)) if name != "serve" => {
                let arguments = words(arguments);
                if let Some(index) = self.commands.iter().position(|command| command.name == name) {
                    let command = self.commands.swap_remove(index);
                    let config = self.connect().await?;
                    let done = (command.work)(config, arguments).await;
                    done.map_err(|source| StartError::Command { name: command.name, source })?;
                }
            }
            _ => return self.serve().await,
        }
        Ok(SUCCESS)
    }

    fn command_line(&self) -> Command {
        let mut command = Command::new(self.info.name.clone())
            .version(self.info.version.clone())
            .about(self.info.description.clone())
            .subcommand(Command::new("serve").about("Serve until SIGTERM or ctrl-c (the default)"))
            .subcommand(Command::new("routes").about("Print the handlers"))
            .subcommand(Command::new("permissions").about("Print what the user of nats-server needs"))
            .subcommand(
                Command::new("nkey")
                    .about("Write the seed of a new nkey to a file and print its public half")
                    .arg(Arg::new("file").required(true)),
            )
            .subcommand(Command::new("provision").about("Create what the service needs in JetStream"))
            .subcommand(Command::new("health").about("Send a message to oneself through nats-server"));
        for own in &self.commands {
            let words = Arg::new("arguments").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
            command = command.subcommand(Command::new(own.name).about(own.about).arg(words));
        }
        command
    }

    async fn connect(&self) -> Result<ServiceContext, StartError> {
        let connection = Connection::open(&NatsConfig::from_env()?.named(&self.info.name)).await?;
        Ok(ServiceContext::new(connection, &self.info.name, &self.limits))
    }

    async fn serve(self) -> Result<u8, StartError> {
        let mut signals = Signals::listen();
        let start = self.start(NatsConfig::from_env()?);
        let mut running = tokio::select! {
            running = start => running?,
            () = signals.next() => return Ok(SUCCESS),
        };
        let mut status = SUCCESS;
        tokio::select! {
            () = signals.next() => {}
            error = running.wait_for_failure() => {
                report(&error);
                status = FAILURE;
            }
        }
        tokio::select! {
            () = running.stop() => Ok(status),
            () = signals.next() => {
                tracing::warn!("a signal while stopping: ending at once, requests in flight are lost");
                // The process does not wait for work that handlers have left on other threads.
                std::process::exit(FAILURE.into());
            }
        }
    }

    async fn run_provision(self) -> Result<(), StartError> {
        let config = self.connect().await?;
        if self.provision.is_empty() {
            tracing::info!("nothing to provision");
        }
        for work in self.provision {
            work.run(config.clone(), &mut Provided::default()).await.map_err(|error| match error {
                StartError::Setup { source, .. } => StartError::Command { name: "provision", source },
                error => error,
            })?;
        }
        Ok(())
    }

    async fn health(self) -> Result<u8, StartError> {
        let nats = NatsConfig::from_env()?.connect_timeout(HEALTH_LIMIT);
        let connection = Connection::open(&nats.named(&self.info.name)).await?;
        match connection.round_trip(HEALTH_LIMIT).await {
            Ok(_) => Ok(SUCCESS),
            Err(error) => {
                report(&error);
                Ok(FAILURE)
            }
        }
    }

    #[allow(clippy::print_stdout, reason = "the table is what the command is for")]
    fn print_routes(&self) -> Result<(), StartError> {
        print!("{}", routes_table(self.table()?.entries()));
        Ok(())
    }

    #[allow(clippy::print_stdout, reason = "the fragment is what the command is for")]
    fn print_permissions(&self) -> Result<(), StartError> {
        print!("{}", self.permissions()?);
        Ok(())
    }
}

#[allow(clippy::print_stdout, reason = "the public half is what the command is for")]
fn print_new_nkey(arguments: &ArgMatches) -> Result<(), StartError> {
    let path = arguments.get_one::<String>("file").map(String::as_str).unwrap_or_default();
    let public = nkey::write_new(path.as_ref())
        .map_err(|source| StartError::Command { name: "nkey", source: format!("{path}: {source}").into() })?;
    println!("{public}");
    Ok(())
}

fn words(matches: &ArgMatches) -> Vec<String> {
    matches.get_many::<String>("arguments").into_iter().flatten().cloned().collect()
}

#[allow(clippy::print_stderr, reason = "what stops a program is said even where the log is filtered")]
fn report(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}
