//! Password changes: with the present password, and with a reset token sent to the mailbox.

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, Email, HashPriority, HashRequest, Password, RESET_LIFETIME, Reset};
use nats_rpc_jwt::UserClaims;
use serde::Serialize;
use users::UserId;

use super::password_check::Proven;
use super::{Authority, Tokens};
use crate::account::{Account, AccountKey};
use crate::caller::Caller;

/// The network of callers that hold a reset token: each account is a source in it.
const RESET: &str = "reset";

/// The event for the mailer: the recipient, and the token to send.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery<'a> {
    email: &'a str,
    user_id: UserId,
    token: &'a str,
    expires_in_seconds: u64,
}

impl Authority {
    /// Replaces the caller's password by `new`, ends all sessions and tokens of the user, and begins a session.
    ///
    /// An access token alone does not prove that its user is present, so the caller must send the present password
    /// too. Wrong passwords count like those of a log-in.
    pub(crate) async fn change_password(
        &self,
        me: &UserClaims,
        current: &str,
        new: &str,
        caller: &Caller,
    ) -> Result<Tokens, RpcError> {
        let parts = &*self.0;
        let new = Password::parse(new)?;
        let (key, account) = self.own_account(me).await?;
        parts.policy.check(&new, self.address(&key, &account).await.as_ref())?;
        let proven = self.check_password(key.as_str(), Some(&key), current, caller).await?;
        let wrong = || RpcError::forbidden("the current password is wrong");
        let Proven { account, device, .. } =
            proven.filter(|proven| proven.account.user_id == account.user_id).ok_or_else(wrong)?;
        let hash = parts.passwords.admit(&parts.throttle.request(caller, device.as_ref())).await?.hash(new).await?;
        let event = AuditEvent::PasswordChanged { user: account.user_id.to_string() };
        let replaced = {
            let key = key.clone();
            self.spawn_detached("a change of password", async move |authority| {
                authority.end(event, || authority.0.accounts.replace_password(&key, &account, &hash)).await
            })
        };
        let overtaken = || RpcError::conflict("the password was changed a moment ago by another");
        let changed = replaced.await?.ok_or_else(overtaken)?;
        self.begin_session(&key, &changed, caller, device.as_ref()).await
    }

    /// Requests a mail with a reset token to `email`, if it has an account; the reply and its cost are the same if
    /// not.
    ///
    /// Both cases read the account and write one record that expires. Only the event for the mailer, which no caller
    /// waits for, is omitted if there is no account.
    pub(crate) async fn request_reset(&self, email: &str, caller: &Caller) -> Result<(), RpcError> {
        let parts = &*self.0;
        let subject = parts.reset_subject.as_deref();
        let subject = subject.ok_or_else(|| RpcError::not_found("this system sends no mail to reset passwords"))?;
        let email = Email::parse(email).map_err(|error| RpcError::invalid_argument(error.to_string()))?;
        let key = AccountKey::of(&email);
        parts.throttle.reset(&key, caller).await?;
        let account = parts.accounts.find(&key).await?.filter(|account| !account.locked);
        let token = parts.resets.issue(account.as_ref().map_or_else(Reset::nobody, |found| reset(&key, found))).await?;
        let user = account.as_ref().map(|account| account.user_id);
        if let Some(user_id) = user {
            let expires_in_seconds = RESET_LIFETIME.as_secs();
            let delivery = Delivery { email: email.as_str(), user_id, token: &token, expires_in_seconds };
            if let Err(error) = parts.events.emit(subject, &delivery).await {
                tracing::error!(%error, user = %user_id, "nobody was asked to send a reset token");
            }
        }
        let (user, source) = (user.map(|user| user.to_string()), parts.throttle.source(caller));
        let account = Some(parts.throttle.account(key.as_str()));
        parts.audit.emit(AuditEvent::PasswordResetRequested { account, user, source });
        Ok(())
    }

    /// Replaces the password that `token` was issued for by `new`, and ends all sessions and tokens of the user.
    ///
    /// The compare-and-set on that password invalidates the token, and all others issued for the same password.
    pub(crate) async fn confirm_reset(&self, token: &str, new: &str, caller: &Caller) -> Result<(), RpcError> {
        let invalid = || RpcError::unauthenticated("the reset token is not valid, or not any more");
        let parts = &*self.0;
        let request = HashRequest::new(HashPriority::Quiet).source(RESET, RESET).deadline(caller.deadline());
        parts.passwords.check(&request)?;
        let new = Password::parse(new)?;
        let reset = parts.resets.find(token).await?.ok_or_else(invalid)?;
        let key = AccountKey::remembered(reset.account.clone());
        let account = parts.accounts.find(&key).await?.filter(|account| {
            !account.locked && account.user_id.to_string() == reset.user && reset.is_of(&account.password())
        });
        let account = account.ok_or_else(invalid)?;
        parts.policy.check(&new, self.address(&key, &account).await.as_ref())?;
        let request = request.source(RESET, key.as_str());
        let hash = parts.passwords.admit(&request).await?.hash(new).await?;
        let event = AuditEvent::PasswordReset { user: account.user_id.to_string() };
        let token = token.to_owned();
        let replaced = self.spawn_detached("a reset of a password", async move |authority| {
            let parts = &*authority.0;
            let write = || parts.accounts.replace_password(&key, &account, &hash);
            let Some(account) = authority.write_end(event, write).await? else { return Ok(None) };
            // An unavailable revocation bucket must not delay a caller who has proved ownership of the mailbox.
            let forgotten = async {
                if let Err(error) = parts.resets.discard(&token).await {
                    tracing::warn!(%error, "a used reset token stays until it expires; it opens nothing");
                }
                parts.throttle.forget(&key).await;
            };
            let (ended, ()) = tokio::join!(authority.announce_end(account), forgotten);
            Ok(Some(ended))
        });
        replaced.await?.map(drop).ok_or_else(invalid)
    }
}

/// Returns a reset of the account's present password.
pub(crate) fn reset(key: &AccountKey, account: &Account) -> Reset {
    Reset::new(key.as_str(), account.user_id.to_string(), account.password())
}
