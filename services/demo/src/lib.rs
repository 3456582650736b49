//! Starts the whole system on a real nats-server and runs the steps of `cargo demo`.
//!
//! - [`walk_through`] and [`serve`]: the two modes of the program
//! - `nats`: the nats-server: the demo's own one with the accounts of `services/nats.conf`, or the one that `NATS_URL`
//!   names
//! - [`Logins`]: the credentials of each part of the system
//! - [`System`]: auth, two instances of users, and the gateway, in this process
//! - [`walk`]: the steps, each with its expected result
//! - `revoked`: the steps about sessions that end
//! - [`Report`]: one line per step
//! - `caller`: calls over HTTP and over NATS, with comparable replies

mod caller;
mod logins;
mod nats;
mod report;
mod revoked;
mod system;
mod walk;

use std::error::Error;
use std::pin::pin;
use std::process::ExitCode;

pub use self::logins::Logins;
pub use self::nats::{OBTAIN, obtain_here};
pub use self::report::Report;
pub use self::system::{Options, System};
pub use self::walk::walk;

type BoxError = Box<dyn Error + Send + Sync>;

/// Exit status of a program that Ctrl-C ended, as shells report it.
const INTERRUPTED: u8 = 130;

/// Starts the system, runs all steps and shuts it down; succeeds if every step had its expected result.
pub async fn walk_through() -> ExitCode {
    let mut report = Report::printing();
    let walked = async {
        let server = nats::Server::start(&mut report).await?;
        let system = System::start(Options::from_env(server.logins().clone()), &mut report).await?;
        walk(&system, &mut report).await;
        system.stop().await;
        Ok::<_, BoxError>(())
    };
    tokio::select! {
        walked = Box::pin(walked) => match walked {
            Ok(()) if report.conclude() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => failure(&*error),
        },
        () = gateway::stop_signal() => ExitCode::from(INTERRUPTED),
    }
}

/// Runs the system until SIGTERM or Ctrl-C.
pub async fn serve() -> ExitCode {
    let mut report = Report::printing();
    // Created once: a signal between two waits would be lost.
    let mut signal = pin!(gateway::stop_signal());
    let started = async {
        let server = nats::Server::start(&mut report).await?;
        let system = System::start(Options::from_env(server.logins().clone()), &mut report).await?;
        Ok::<_, BoxError>((server, system))
    };
    let (server, system) = tokio::select! {
        started = Box::pin(started) => match started {
            Ok(started) => started,
            Err(error) => return failure(&*error),
        },
        () = &mut signal => return ExitCode::from(INTERRUPTED),
    };
    report.say(&format!("NATS_URL={}", server.url()));
    report.say(&format!("GATEWAY_URL={}", system.gateway_url()));
    report.say(&to_try(system.gateway_url()));
    signal.await;
    tokio::select! {
        () = system.stop() => ExitCode::SUCCESS,
        () = gateway::stop_signal() => ExitCode::from(INTERRUPTED),
    }
}

/// Returns example calls, in a sensible order.
fn to_try(url: &str) -> String {
    let post =
        |path: &str, data: &str| format!("curl -s {url}/api/{path} -H 'content-type: application/json' -d '{data}'");
    let user = r#"{"email":"ada@example.com","password":"correct horse"}"#;
    [
        String::new(),
        "# Sign up, log in, and take the access token into the shell:".to_owned(),
        post("auth/signup", user),
        format!("TOKEN=$({} | sed 's/.*\"accessToken\":\"\\([^\"]*\\)\".*/\\1/')", post("auth/login", user)),
        "# The profile, with and without the token:".to_owned(),
        format!("curl -s {url}/api/users/me -H \"authorization: Bearer $TOKEN\""),
        format!("{} -H \"authorization: Bearer $TOKEN\"", post("users/profile", "{}")),
        format!("curl -s {url}/api/users/me"),
        "# Ctrl-C ends it all.".to_owned(),
    ]
    .join("\n")
}

fn failure(error: &(dyn Error + Send + Sync)) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
