//! The audit events and their names.

use serde::{Deserialize, Serialize};

/// An action that an auth service performed or rejected, identified by ids and hashes only.
///
/// `user` is a user's id, `sid` a session's id, `account` the keyed hash of an e-mail address, `source` that of the
/// client's address as proved by a gateway ([`ThrottleKey::hash`](crate::ThrottleKey::hash)). None of these grants
/// access; `kid` is the id of a public key. As JSON: `{"event":"logged_in","user":"0192…","sid":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those that the enum's own documentation names")]
pub enum AuditEvent {
    /// An account was created.
    SignedUp { user: String },
    /// A session was created with the right password.
    LoggedIn {
        user: String,
        sid: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// A login failed; without `user` the address has no account.
    LogInRefused {
        account: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// An attempt was not checked, because too many before it failed.
    Throttled {
        /// The attempted action, such as `log_in`.
        action: String,
        account: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        retry_after_ms: u64,
    },
    /// A user changed the password, with the present one. All sessions ended.
    PasswordChanged { user: String },
    /// A password reset was requested. Without `user` the address has no account; without `account` an operator
    /// requested it.
    PasswordResetRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// The password was reset with a reset token. All sessions ended.
    PasswordReset { user: String },
    /// A stored password hash is malformed, or its cost is so high that it must have been planted.
    PasswordHashUnusable { user: String },
    /// A refresh token was reused: another party has it. The session ended.
    TokenReused { user: String, sid: String },
    /// A session was ended.
    LoggedOut { user: String, sid: String },
    /// The user's oldest session was evicted, because the user exceeded the maximum number of sessions.
    #[serde(alias = "session_displaced")]
    SessionEvicted { user: String, sid: String },
    /// All sessions of a user were ended.
    LoggedOutEverywhere { user: String },
    /// A user was locked; all sessions ended.
    UserLocked { user: String },
    /// A user was unlocked.
    UserUnlocked { user: String },
    /// A user's account was deleted; all sessions ended.
    UserDeleted { user: String },
    /// One access token was revoked.
    TokenRevoked { jti: String },
    /// The tokens of a session were revoked by its id, whether or not it was live; with `user`, it was.
    SessionRevoked {
        sid: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// All access tokens of all users were revoked.
    #[serde(alias = "realm_revoked")]
    AllTokensRevoked,
    /// A role was granted to a user.
    RoleGranted { user: String, role: String },
    /// A role was revoked from a user.
    RoleRevoked { user: String, role: String },
    /// A service was given a credential with the scopes in `scope`.
    ServiceAdded { service: String, scope: String },
    /// A service's credential was removed.
    ServiceRemoved { service: String },
    /// A key was added to the ring; it signs no tokens yet.
    KeyPublished { kid: String },
    /// A key became the active one.
    KeyRotated { kid: String },
    /// A key was removed from the ring; verifiers reject its signatures.
    KeyRetired { kid: String },
    /// A key is no longer in the ring, although its instance did not remove it: an operator retired it, it expired
    /// there, or another program wrote the ring. The instance signs with another key.
    KeyLost { kid: String },
}

impl AuditEvent {
    /// Returns the event's name, the last token of its subject; such as `logged_in`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SignedUp { .. } => "signed_up",
            Self::LoggedIn { .. } => "logged_in",
            Self::LogInRefused { .. } => "log_in_refused",
            Self::Throttled { .. } => "throttled",
            Self::PasswordChanged { .. } => "password_changed",
            Self::PasswordResetRequested { .. } => "password_reset_requested",
            Self::PasswordReset { .. } => "password_reset",
            Self::PasswordHashUnusable { .. } => "password_hash_unusable",
            Self::TokenReused { .. } => "token_reused",
            Self::LoggedOut { .. } => "logged_out",
            Self::SessionEvicted { .. } => "session_evicted",
            Self::LoggedOutEverywhere { .. } => "logged_out_everywhere",
            Self::UserLocked { .. } => "user_locked",
            Self::UserUnlocked { .. } => "user_unlocked",
            Self::UserDeleted { .. } => "user_deleted",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::SessionRevoked { .. } => "session_revoked",
            Self::AllTokensRevoked => "all_tokens_revoked",
            Self::RoleGranted { .. } => "role_granted",
            Self::RoleRevoked { .. } => "role_revoked",
            Self::ServiceAdded { .. } => "service_added",
            Self::ServiceRemoved { .. } => "service_removed",
            Self::KeyPublished { .. } => "key_published",
            Self::KeyRotated { .. } => "key_rotated",
            Self::KeyRetired { .. } => "key_retired",
            Self::KeyLost { .. } => "key_lost",
        }
    }
}

/// An [`AuditEvent`] with its time, as published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Milliseconds since 1970, by the clock of the publishing instance.
    pub at: u64,
    /// The event.
    #[serde(flatten)]
    pub event: AuditEvent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_whose_name_is_that_of_its_subject() {
        let text = || "x".to_owned();
        let events = [
            AuditEvent::SignedUp { user: text() },
            AuditEvent::LoggedIn { user: text(), sid: text(), source: None },
            AuditEvent::LogInRefused { account: text(), user: None, source: None },
            AuditEvent::Throttled { action: text(), account: text(), source: None, retry_after_ms: 1 },
            AuditEvent::PasswordChanged { user: text() },
            AuditEvent::PasswordResetRequested { account: Some(text()), user: Some(text()), source: Some(text()) },
            AuditEvent::PasswordReset { user: text() },
            AuditEvent::PasswordHashUnusable { user: text() },
            AuditEvent::TokenReused { user: text(), sid: text() },
            AuditEvent::LoggedOut { user: text(), sid: text() },
            AuditEvent::SessionEvicted { user: text(), sid: text() },
            AuditEvent::LoggedOutEverywhere { user: text() },
            AuditEvent::UserLocked { user: text() },
            AuditEvent::UserUnlocked { user: text() },
            AuditEvent::UserDeleted { user: text() },
            AuditEvent::TokenRevoked { jti: text() },
            AuditEvent::SessionRevoked { sid: text(), user: Some(text()) },
            AuditEvent::AllTokensRevoked,
            AuditEvent::RoleGranted { user: text(), role: text() },
            AuditEvent::RoleRevoked { user: text(), role: text() },
            AuditEvent::ServiceAdded { service: text(), scope: text() },
            AuditEvent::ServiceRemoved { service: text() },
            AuditEvent::KeyPublished { kid: text() },
            AuditEvent::KeyRotated { kid: text() },
            AuditEvent::KeyRetired { kid: text() },
            AuditEvent::KeyLost { kid: text() },
        ];
        for event in events {
            let record = AuditRecord { at: 7, event };
            let json = serde_json::to_value(&record).unwrap();
            assert_eq!((&json["event"], &json["at"]), (&record.event.name().into(), &7.into()));
            assert!(!json.to_string().contains("null"), "{json}");
            assert_eq!(serde_json::from_value::<AuditRecord>(json).unwrap(), record);
        }
    }
}
