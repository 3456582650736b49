//! The buckets that decide trust, for the permissions of the users that read and write them.

use nats_rpc::{Account, KvAccess};

use crate::jwks::KeyPurpose;

/// The account of auth in `services/nats.conf`.
const OWNER: &str = "AUTH";
/// The API of a user's own account.
const OWN_API: &str = "$JS.API";
const PREFIX: &str = "AUTH_JS_API_PREFIX";
const REVOCATIONS: &str = "auth_rev";
/// The core subjects of the revocations and of the beacon.
const CHANGES: &str = "watch.auth_rev.>";
const BEACON: &str = "watch.auth_beacon";

/// The buckets of auth that a program reads to verify tokens, for its [`Permissions`](nats_rpc::Permissions).
///
/// With `AUTH_JS_API_PREFIX`, auth has its own account on nats-server: programs read the buckets by the API that is
/// imported below that prefix, and watch them without consumers. Otherwise all programs are in one account.
///
/// ```
/// use nats_rpc::Permissions;
/// use nats_rpc_jwt::{KeyPurpose, TrustBuckets};
///
/// let trust = TrustBuckets::from_vars(|name| (name == "AUTH_JS_API_PREFIX").then(|| "AUTHJS".to_owned()));
/// let buckets = [trust.keys(KeyPurpose::AccessTokens), trust.revocations()];
/// let needed = Permissions::of_caller("shop", ["orders.count"], buckets).to_string();
/// assert!(needed.contains(r#""AUTHJS.STREAM.MSG.GET.KV_auth_jwks""#));
/// assert!(needed.contains(r#"{ stream: { account: AUTH, subject: "watch.auth_rev.>" } }"#));
/// assert!(!needed.contains("CONSUMER"));
/// ```
#[derive(Clone, Debug)]
pub struct TrustBuckets {
    prefix: Option<String>,
}

impl TrustBuckets {
    /// Reads `AUTH_JS_API_PREFIX` through `vars`.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Self {
        Self { prefix: vars(PREFIX).filter(|prefix| !prefix.is_empty()) }
    }

    /// Returns `true` if auth has its own account.
    pub fn has_own_account(&self) -> bool {
        self.prefix.is_some()
    }

    /// Returns access to the public keys of `purpose`, for verifying with them.
    pub fn keys(&self, purpose: KeyPurpose) -> KvAccess {
        let access = KvAccess::to(purpose.bucket()).read();
        if self.has_own_account() { self.located(access) } else { access.watch() }
    }

    /// Returns access to the public keys of `purpose`, for a program that publishes its own keys there and watches
    /// none.
    pub fn own_keys(&self, purpose: KeyPurpose) -> KvAccess {
        self.located(KvAccess::to(purpose.bucket()).read().write_key("ring"))
    }

    /// Returns access to the revocations, for rejecting revoked tokens.
    pub fn revocations(&self) -> KvAccess {
        let access = KvAccess::to(REVOCATIONS);
        if self.has_own_account() {
            self.located(access.read_all().subscribe(CHANGES).subscribe(BEACON))
        } else {
            access.watch()
        }
    }

    /// Returns the exports of auth's account: reading keys and revocations for all accounts, and writing the gateways'
    /// ring for the account `gateways`, which must have no other user.
    pub fn exports(&self, gateways: &str) -> Account {
        let rings = [KeyPurpose::AccessTokens, KeyPurpose::Assertions].map(KeyPurpose::bucket);
        let account = rings.into_iter().chain([REVOCATIONS]).fold(Account::new(), |account, bucket| {
            let account = account.export_service(format!("$JS.API.STREAM.INFO.KV_{bucket}"));
            account.export_service(format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"))
        });
        account
            .export_streaming_service(format!("$JS.API.DIRECT.GET.KV_{REVOCATIONS}"))
            .export_service_to(gateways, format!("$KV.{}.ring", KeyPurpose::Assertions.bucket()))
            .export_stream(CHANGES)
            .export_stream(BEACON)
    }

    fn located(&self, access: KvAccess) -> KvAccess {
        match &self.prefix {
            Some(prefix) if prefix != OWN_API => access.in_account(OWNER, prefix),
            _ => access,
        }
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::Permissions;

    use super::*;

    fn needed(prefix: Option<&str>) -> Permissions {
        let trust = TrustBuckets::from_vars(|_| prefix.map(str::to_owned));
        let keys = [KeyPurpose::AccessTokens, KeyPurpose::Assertions].map(|purpose| trust.keys(purpose));
        Permissions::of_caller("shop", [""; 0], keys.into_iter().chain([trust.revocations()]))
    }

    #[test]
    fn consumers_watch_only_within_one_account() {
        for (prefix, consumers, imports) in [
            (None, true, false),
            (Some(""), true, false),
            (Some("$JS.API"), false, false),
            (Some("AUTHJS"), false, true),
        ] {
            let needed = needed(prefix);
            assert_eq!(needed.publish.iter().any(|subject| subject.contains("CONSUMER")), consumers, "{prefix:?}");
            assert_eq!(needed.subscribe.contains(&CHANGES.to_owned()), !consumers, "{prefix:?}");
            assert_eq!(needed.account.is_some(), imports, "{prefix:?}");
        }
    }
}
