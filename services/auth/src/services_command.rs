//! The commands `auth services add <name> introspect|revoke …` and `auth services remove <name>`.

use std::error::Error;

use nats_rpc::ServiceContext;
use nats_rpc_auth::{Audit, AuditEvent, ServiceCredentials};

const USAGE: &str = "usage: auth services add <name> introspect|revoke …, or auth services remove <name>; \
                     a name is 1 to 32 of a-z, 0-9, - and _";

/// Operations that a service can be allowed: token introspection and revocation.
const ALLOWED: [&str; 2] = ["introspect", "revoke"];

/// Runs the command with the arguments after `services`.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the credential is what the command is for")]
pub(crate) async fn run(config: ServiceContext, words: Vec<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let credentials = ServiceCredentials::open(config.connection()).await?;
    match words.as_slice() {
        ["add", name, allowed @ ..] if !allowed.is_empty() && allowed.iter().all(|word| ALLOWED.contains(word)) => {
            let scope = allowed.join(" ");
            let credential = credentials.add(name, &scope).await?;
            let service = (*name).to_owned();
            Audit::tell(config.connection(), AuditEvent::ServiceAdded { service, scope }).await;
            eprintln!("the credential of {name}, to be sent as a bearer token; it is told this once:");
            println!("{credential}");
        }
        ["remove", name] => {
            credentials.remove(name).await?;
            Audit::tell(config.connection(), AuditEvent::ServiceRemoved { service: (*name).to_owned() }).await;
            println!("the credential of {name} is good no more");
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
