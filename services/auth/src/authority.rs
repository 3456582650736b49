//! The implementation of the handlers: accounts, passwords, sessions and tokens.

mod announcements;
mod endings;
mod inspection;
mod log_in;
mod password_change;
mod password_check;
mod refresh;
mod remains;
mod sessions;
mod whose;

use std::error::Error;
use std::sync::Arc;

use nats_rpc::{Client, RpcError, ServiceContext};
use nats_rpc_auth::{
    Audit, AuditEvent, Device, DeviceTokens, Email, Grant, LoginThrottle, Owner, Password, PasswordConfig,
    PasswordHasher, PasswordPolicy, ResetTokens, Session, SessionConfig, SessionError, Sessions, TokenIssuer,
};
use nats_rpc_jwt::{JwkSet, Revocations, Revoker, TrustBeacon};
use schemars::JsonSchema;
use serde::Serialize;
use users::{Profile, UserCreated, UserId, Users};

use crate::account::{Account, AccountKey, Accounts};
use crate::caller::Caller;
use crate::config::{SessionLimits, Settings};
use crate::keys::AccessKeys;
use crate::login_throttle::Throttle;
use crate::trust::Trust;

use self::announcements::Announcements;
pub(crate) use self::inspection::{Introspection, Revocation};
pub(crate) use self::password_change::reset;
use self::remains::Written;
pub(crate) use self::sessions::OwnSessions;

/// Scope of every user's token: access to the user's own profile.
const SCOPE: &str = "profile:read profile:write";
const USER_CREATED: &str = "user.created";

/// Accounts, sessions and tokens, with all that the handlers need. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Authority(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    service: ServiceContext,
    accounts: Accounts,
    profiles: Users,
    passwords: PasswordHasher,
    policy: PasswordPolicy,
    throttle: Throttle,
    devices: DeviceTokens,
    resets: ResetTokens,
    reset_subject: Option<String>,
    sessions: Sessions,
    announcements: Announcements,
    revoker: Arc<Revoker>,
    revocations: Revocations,
    keys: AccessKeys,
    issuer: TokenIssuer,
    events: Client,
    audit: Audit,
    /// Keeps the beacon published while the service runs.
    _beacon: Arc<TrustBeacon>,
}

/// The reply to a sign-up.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedUp {
    user_id: UserId,
    #[serde(flatten)]
    tokens: Tokens,
}

/// An access token, and the refresh token for the next one.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tokens {
    access_token: String,
    refresh_token: String,
    /// Identifies the device at the next log-in; present if the caller gave a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
}

impl Authority {
    /// Opens the buckets, which must exist already.
    pub(crate) async fn open(
        config: ServiceContext,
        settings: Settings,
        trust: Trust,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let Settings { refresh_secret, issuer, audience, bcrypt_cost, .. } = settings;
        let Trust { audit, keys, revocations, signer, beacon, .. } = trust;
        let policy = PasswordPolicy::new().min_chars(settings.password_min_length).forbid(&issuer).forbid(&audience);
        let events = Client::new(config.connection().clone());
        let accounts = Accounts::open(config.connection()).await?;
        let revoker = Arc::new(Revoker::open(config.connection()).await?.signed_by(&signer));
        let SessionLimits { grace, idle, absolute, per_user } = settings.sessions;
        let session_config = SessionConfig::new(&refresh_secret).revoker(revoker.clone());
        let session_config = session_config.grace(grace).idle(idle).absolute(absolute).cap(per_user);
        let counts = LoginThrottle::open(config.connection(), &refresh_secret).await?;
        Ok(Self(Arc::new(Parts {
            service: config.clone(),
            accounts,
            profiles: Users::open(config.connection()).await?,
            passwords: PasswordHasher::new(PasswordConfig::default().cost(bcrypt_cost))?,
            policy,
            throttle: Throttle::new(counts, settings.rate_limits, audit.clone()),
            devices: DeviceTokens::new(&refresh_secret).lifetime(settings.device_lifetime),
            resets: ResetTokens::open(config.connection()).await?,
            reset_subject: settings.reset_subject,
            sessions: Sessions::open(config.connection(), session_config).await?,
            announcements: Announcements::default(),
            revoker,
            revocations,
            issuer: keys.issuer(issuer).audience(audience),
            keys,
            audit,
            events,
            _beacon: beacon,
        })))
    }

    /// Returns the keys that verify access tokens.
    pub(crate) fn public_keys(&self) -> JwkSet {
        self.0.keys.public()
    }

    /// Creates an account; 409 if the address has one.
    ///
    /// Of concurrent sign-ups with one address, the compare-and-set on the account lets one succeed. If the process
    /// ends between account and profile, the next log-in writes the profile.
    pub(crate) async fn sign_up(&self, email: &str, password: &str, caller: &Caller) -> Result<SignedUp, RpcError> {
        let email = Email::parse_new(email).map_err(|error| RpcError::invalid_argument(error.to_string()))?;
        let password = Password::parse(password)?;
        let parts = &*self.0;
        parts.policy.check(&password, &email)?;
        let key = AccountKey::of(&email);
        let request = parts.throttle.request(caller, None);
        parts.passwords.check(&request)?;
        parts.throttle.sign_up(&key, caller).await?;
        // This check spares the hashing; the compare-and-set decides.
        if parts.accounts.find(&key).await?.is_some() {
            return Err(taken());
        }
        let account = Account::new(parts.passwords.admit(&request).await?.hash(password).await?);
        if !parts.accounts.create(&key, &account).await? {
            return Err(taken());
        }
        parts.profiles.create(&Profile::new(account.user_id, email.as_str())).await?;
        if !self.still_stands(&key, account.user_id, Written { place: true, profile: true }).await? {
            return Err(RpcError::conflict("this account was locked or deleted meanwhile"));
        }
        let tokens = self.begin_session(&key, &account, caller, None).await?;
        parts.audit.emit(AuditEvent::SignedUp { user: account.user_id.to_string() });
        let event = UserCreated { user_id: account.user_id };
        if let Err(error) = parts.events.emit(USER_CREATED, &event).await {
            // The event is a notification; the user exists without it.
            tracing::warn!(%error, user = %account.user_id, "nobody was told of a new user");
        }
        Ok(SignedUp { user_id: account.user_id, tokens })
    }

    /// Ends a session. An ended or unknown session is no error (RFC 7009, section 2.2).
    pub(crate) async fn log_out(&self, refresh_token: &str) -> Result<(), RpcError> {
        match self.0.sessions.log_out(refresh_token).await {
            Ok(session) => {
                self.0.audit.emit(AuditEvent::LoggedOut { user: session.owner.user, sid: session.id });
                Ok(())
            }
            Err(SessionError::Invalid) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the global epoch.
    fn global_epoch(&self) -> Result<u64, RpcError> {
        Ok(self.0.revocations.global_epoch()?)
    }

    /// Begins a session, of a new or a known device.
    async fn begin_session(
        &self,
        key: &AccountKey,
        account: &Account,
        caller: &Caller,
        device: Option<&Device>,
    ) -> Result<Tokens, RpcError> {
        let Parts { sessions, devices, throttle, audit, .. } = &*self.0;
        let owner = Owner::new(account.user_id.to_string(), key.as_str());
        let global_epoch = self.global_epoch()?;
        let owner = owner.user_epoch(account.epoch).global_epoch(global_epoch);
        let device_token = devices.issue(&owner, device)?;
        let issued = sessions.create(owner).await?;
        let (user, sid) = (account.user_id.to_string(), issued.session.id.clone());
        for Session { owner, id: sid, .. } in &issued.evicted {
            audit.emit(AuditEvent::SessionEvicted { user: owner.user.clone(), sid: sid.clone() });
        }
        audit.emit(AuditEvent::LoggedIn { user, sid, source: throttle.source(caller) });
        let access_token = self.access_token(&issued.session, account, global_epoch)?;
        Ok(Tokens { access_token, refresh_token: issued.refresh_token, device_token: Some(device_token) })
    }

    /// Issues an access token for the user of `account` in `session`, with the epoch `global_epoch`.
    fn access_token(&self, session: &Session, account: &Account, global_epoch: u64) -> Result<String, RpcError> {
        let sub = account.user_id.to_string();
        let grant = Grant::new(&sub, &session.id).epoch(account.epoch).global_epoch(global_epoch);
        self.0.issuer.issue(&grant.roles(&account.roles).scope(SCOPE))
    }
}

fn taken() -> RpcError {
    RpcError::conflict("this e-mail address has an account")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_camel_case() {
        let tokens =
            Tokens { access_token: "a".to_owned(), refresh_token: "r".to_owned(), device_token: Some("d".to_owned()) };
        let user_id = UserId::generate();
        let json = serde_json::to_string(&SignedUp { user_id, tokens }).unwrap();
        assert_eq!(json, format!(r#"{{"userId":"{user_id}","accessToken":"a","refreshToken":"r","deviceToken":"d"}}"#));
    }
}
