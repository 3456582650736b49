//! The command `auth password reset-token <email>`.

use std::error::Error;

use nats_rpc::ServiceContext;
use nats_rpc_auth::{Audit, AuditEvent, Email, RESET_LIFETIME, ResetTokens};

use crate::account::{AccountKey, Accounts};
use crate::authority::reset;

const USAGE: &str = "usage: auth password reset-token <email>";

/// Runs the command with the arguments after `password`.
#[allow(clippy::print_stdout, reason = "the outcome is what the command is for")]
pub(crate) async fn run(config: ServiceContext, words: Vec<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let [action, email] = words.as_slice() else { return Err(USAGE.into()) };
    if action != "reset-token" {
        return Err(USAGE.into());
    }
    let email = Email::parse(email)?;
    let key = AccountKey::of(&email);
    let account = Accounts::open(config.connection()).await?.find(&key).await?;
    let account = account.ok_or("nobody has signed up with this e-mail address")?;
    let token = ResetTokens::open(config.connection()).await?.issue(reset(&key, &account)).await?;
    let user = Some(account.user_id.to_string());
    let event = AuditEvent::PasswordResetRequested { account: None, user, source: None };
    Audit::tell(config.connection(), event).await;
    eprintln!(
        "for user {}, good for {} minutes and one use; hand it over in person:",
        account.user_id,
        RESET_LIFETIME.as_secs() / 60
    );
    println!("{}", *token);
    Ok(())
}
