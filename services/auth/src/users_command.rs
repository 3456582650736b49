//! The commands `auth users lock|unlock|delete|log-out <email>`, `auth users log-out-everybody` and
//! `auth users look-alikes`.

use std::error::Error;

use nats_rpc::ServiceContext;
use nats_rpc_auth::{Audit, AuditEvent, Email};
use nats_rpc_jwt::Revoker;

use crate::look_alikes;
use crate::standing::Standing;

const USAGE: &str = "usage: auth users lock|unlock|delete|log-out <email>, auth users log-out-everybody, \
                     or auth users look-alikes";

/// Runs the command with the arguments after `users`.
#[allow(clippy::print_stdout, reason = "the outcome is what the command is for")]
pub(crate) async fn run(config: ServiceContext, words: Vec<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (told, event) = match words.as_slice() {
        ["look-alikes"] => {
            println!("{}", look_alikes::list(config.connection()).await?);
            return Ok(());
        }
        ["log-out-everybody"] => {
            let epoch = Revoker::open(config.connection()).await?.everybody().await?;
            (format!("all users are logged out; the global epoch is {epoch}"), AuditEvent::AllTokensRevoked)
        }
        [action, email] => {
            let (standing, done) = standing(action).ok_or(USAGE)?;
            let account = standing.give(config.connection(), &Email::parse(email)?).await?;
            let account = account.ok_or("nobody has signed up with this e-mail address")?;
            let user = account.user_id.to_string();
            (format!("user {user} {done}"), event(standing, user))
        }
        _ => return Err(USAGE.into()),
    };
    Audit::tell(config.connection(), event).await;
    println!("{told}");
    Ok(())
}

fn standing(action: &str) -> Option<(Standing, &'static str)> {
    Some(match action {
        "lock" => (Standing::Locked, "is locked; every session and token has ended"),
        "unlock" => (Standing::Unlocked, "may log in again"),
        "delete" => (Standing::Deleted, "is deleted, the profile too; every session and token has ended"),
        "log-out" => (Standing::LoggedOut, "is logged out; every session and token has ended"),
        _ => return None,
    })
}

fn event(standing: Standing, user: String) -> AuditEvent {
    match standing {
        Standing::Locked => AuditEvent::UserLocked { user },
        Standing::Unlocked => AuditEvent::UserUnlocked { user },
        Standing::Deleted => AuditEvent::UserDeleted { user },
        Standing::LoggedOut => AuditEvent::LoggedOutEverywhere { user },
    }
}
