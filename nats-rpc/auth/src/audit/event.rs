//! What can be told, and in which words.

use serde::{Deserialize, Serialize};

/// Something that an auth service did or refused, named by ids and hashes alone.
///
/// `user` is a user's id, `sid` a session's id, `account` the keyed hash of an e-mail address, `source` that of
/// where a caller is, as a gateway proved it ([`ThrottleKey::hash`](crate::ThrottleKey::hash)). None of
/// these lets anybody in; `kid` is the id of a public key. As JSON: `{"event":"logged_in","user":"0192…","sid":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those that the enum's own documentation names")]
pub enum AuditEvent {
    /// Somebody made an account.
    SignedUp { user: String },
    /// A session began with the right password.
    LoggedIn {
        user: String,
        sid: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// A log-in failed; without `user` the address has no account.
    LogInRefused {
        account: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// An attempt was not looked at, because too many before it failed.
    Throttled {
        /// What was attempted, such as `log_in`.
        action: String,
        account: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        retry_after_ms: u64,
    },
    /// A user chose another password, knowing the present one. Every session ended.
    PasswordChanged { user: String },
    /// Somebody asked for a reset; without `user` the address has no account, without `account` it was an
    /// operator who asked.
    PasswordResetRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// A reset token was used: there is another password. Every session ended.
    PasswordReset { user: String },
    /// A stored password hash is malformed, or so dear that it must have been planted.
    PasswordHashUnusable { user: String },
    /// A refresh token came a second time: somebody else has it. The session ended.
    TokenReused { user: String, sid: String },
    /// A session was ended.
    LoggedOut { user: String, sid: String },
    /// A session ended because its user began one more than they may have; it was the oldest.
    #[serde(alias = "session_displaced")]
    SessionEvicted { user: String, sid: String },
    /// All sessions of a user were ended.
    LoggedOutEverywhere { user: String },
    /// A user may not log in any more; every session ended.
    UserLocked { user: String },
    /// A user may log in again.
    UserUnlocked { user: String },
    /// A user's account was removed; every session ended.
    UserDeleted { user: String },
    /// One access token was revoked.
    TokenRevoked { jti: String },
    /// The tokens of a session were revoked by its id, whether or not it still went on; with `user`, it did.
    SessionRevoked {
        sid: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Every token of every user that was made before now was revoked.
    #[serde(alias = "realm_revoked")]
    AllTokensRevoked,
    /// A user got a role.
    RoleGranted { user: String, role: String },
    /// A user lost a role.
    RoleRevoked { user: String, role: String },
    /// A service got a credential, which allows what `scope` says.
    ServiceAdded { service: String, scope: String },
    /// A service's credential was taken away.
    ServiceRemoved { service: String },
    /// A key was put into the ring; it signs nothing yet.
    KeyPublished { kid: String },
    /// A key signs from now on.
    KeyRotated { kid: String },
    /// A key was taken out of the ring; nothing that it signed is believed any more.
    KeyRetired { kid: String },
    /// A key is no longer in the ring, without the instance having wished it: it was retired, has expired
    /// there, or somebody else wrote the ring. The instance signs with another.
    KeyLost { kid: String },
}

impl AuditEvent {
    /// The event's name, the last word of its subject; such as `logged_in`.
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

/// An [`AuditEvent`] with its time, as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Milliseconds since 1970, by the clock of the instance that tells.
    pub at: u64,
    /// What happened.
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
