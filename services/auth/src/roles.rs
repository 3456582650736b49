//! The commands `auth roles grant|revoke <email> <role>`.

use std::error::Error;

use nats_rpc::ServiceContext;
use nats_rpc_auth::{Audit, AuditEvent, Email};

use crate::account::{AccountKey, Accounts, Role};
use crate::standing::revoke_role;

const USAGE: &str = "usage: auth roles grant|revoke <email> <role>; a role is 1 to 32 of a-z, 0-9, - and _";

/// Runs the command with the arguments after `roles`.
#[allow(clippy::print_stdout, reason = "the outcome is what the command is for")]
pub(crate) async fn run(config: ServiceContext, words: Vec<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let [action, email, role] = words.as_slice() else { return Err(USAGE.into()) };
    let email = Email::parse(email)?;
    let role = Role::parse(role).ok_or(USAGE)?;
    let (account, from) = match action.as_str() {
        "grant" => {
            let accounts = Accounts::open(config.connection()).await?;
            (accounts.grant(&AccountKey::of(&email), &role).await?, "the next log-in or refresh on")
        }
        "revoke" => (revoke_role(config.connection(), &email, &role).await?, "now on"),
        _ => return Err(USAGE.into()),
    };
    let (user, name) = (account.user_id.to_string(), role.as_str().to_owned());
    let event = match action.as_str() {
        "grant" => AuditEvent::RoleGranted { user, role: name },
        _ => AuditEvent::RoleRevoked { user, role: name },
    };
    Audit::tell(config.connection(), event).await;
    println!("user {} has the roles [{}] from {from}", account.user_id, account.roles.join(", "));
    Ok(())
}
