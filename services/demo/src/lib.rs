//! Starts the whole system on a real nats-server and walks through it, as `cargo demo` does.
//!
//! - [`walk_through`] and [`serve`] are the two things that the program does.
//! - `nats`: the nats-server: one of our own with the accounts of `services/nats.conf`, or the one that `NATS_URL` names.
//! - [`Logins`]: how each part of the system connects.
//! - [`System`]: auth, two instances of users, and the gateway, in this process.
//! - [`walk`]: the steps, each with what it expects.
//! - `revoked`: the steps about sessions that end.
//! - [`Report`]: a line for each step.
//! - `caller`: calls over HTTP and over NATS, with answers that can be compared.

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

/// What a shell reports of a program that ctrl-c ended.
const INTERRUPTED: u8 = 130;

/// Starts the system, walks through it and stops it; succeeds if every step did what it should.
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

/// Starts the system and keeps it up until SIGTERM or ctrl-c.
pub async fn serve() -> ExitCode {
    let mut report = Report::printing();
    // One that comes between two waits would be lost.
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

/// What to call, in the order in which it makes sense.
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
