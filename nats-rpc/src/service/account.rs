//! The exports and imports of an account on nats-server.

use std::collections::BTreeSet;
use std::fmt;

/// The exports and imports of an account on nats-server, in the syntax of its configuration.
///
/// nats-server replaces the reply subject of a request that crosses from one account to another. The reply arrives
/// only in the caller's account, whatever reply subject the caller set. Callers therefore belong in an account without
/// JetStream. From there they cannot make a service, or nats-server itself, write to a bucket.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc::Account;
///
/// #[message_pattern("orders.count")]
/// async fn count() -> u64 { 0 }
///
/// let service = Service::new("orders", "1.0.0")
///     .handlers(handlers![count])
///     .account(Account::new().import_stream("AUTH", "user.created"));
/// let printed = service.permissions()?.to_string();
/// assert!(printed.contains(r#"{ service: "orders.count" }"#));
/// assert!(printed.contains(r#"{ stream: { account: AUTH, subject: "user.created" } }"#));
/// # Ok::<_, nats_rpc::StartError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Account {
    exports: BTreeSet<String>,
    imports: BTreeSet<String>,
}

impl Account {
    /// Creates an account without exports and imports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exports `subject` as a service: other accounts may send requests to it, each with one reply.
    pub fn export_service(mut self, subject: impl AsRef<str>) -> Self {
        self.exports.insert(format!("{{ service: {:?} }}", subject.as_ref()));
        self
    }

    /// Exports `subject` as a streaming service: other accounts may send requests to it, each with several replies.
    pub fn export_streaming_service(mut self, subject: impl AsRef<str>) -> Self {
        self.exports.insert(format!("{{ service: {:?}, response_type: stream }}", subject.as_ref()));
        self
    }

    /// Exports `subject` as a service to `account` alone; each request has one reply.
    ///
    /// If an account imports the subject of a bucket, each reply that arrives at the subject writes to the bucket. So
    /// export such a subject only to an account whose users may all write to the bucket.
    pub fn export_service_to(mut self, account: impl AsRef<str>, subject: impl AsRef<str>) -> Self {
        self.exports.insert(format!("{{ service: {:?}, accounts: [{}] }}", subject.as_ref(), account.as_ref()));
        self
    }

    /// Exports `subject` as a stream: other accounts may subscribe to it.
    pub fn export_stream(mut self, subject: impl AsRef<str>) -> Self {
        self.exports.insert(format!("{{ stream: {:?} }}", subject.as_ref()));
        self
    }

    /// Imports the service `subject` of `account`.
    pub fn import_service(mut self, account: impl AsRef<str>, subject: impl AsRef<str>) -> Self {
        let (account, subject) = (account.as_ref(), subject.as_ref());
        self.imports.insert(format!("{{ service: {{ account: {account}, subject: {subject:?} }} }}"));
        self
    }

    /// Imports the service `subject` of `account` under the subject `local` in this account.
    pub fn import_service_as(
        mut self,
        account: impl AsRef<str>,
        subject: impl AsRef<str>,
        local: impl AsRef<str>,
    ) -> Self {
        let (account, subject, local) = (account.as_ref(), subject.as_ref(), local.as_ref());
        self.imports.insert(format!("{{ service: {{ account: {account}, subject: {subject:?} }}, to: {local:?} }}"));
        self
    }

    /// Imports the stream `subject` of `account`.
    pub fn import_stream(mut self, account: impl AsRef<str>, subject: impl AsRef<str>) -> Self {
        let (account, subject) = (account.as_ref(), subject.as_ref());
        self.imports.insert(format!("{{ stream: {{ account: {account}, subject: {subject:?} }} }}"));
        self
    }

    /// Merges the exports and imports of both accounts.
    pub fn and(mut self, other: Self) -> Self {
        self.exports.extend(other.exports);
        self.imports.extend(other.imports);
        self
    }

    /// Returns the entries of `exports`, sorted.
    pub fn exports(&self) -> impl Iterator<Item = &str> {
        self.exports.iter().map(String::as_str)
    }

    /// Returns the entries of `imports`, sorted.
    pub fn imports(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().map(String::as_str)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, entries) in [("exports", &self.exports), ("imports", &self.imports)] {
            if entries.is_empty() {
                continue;
            }
            writeln!(f, "{name}: [")?;
            for entry in entries {
                writeln!(f, "  {entry}")?;
            }
            writeln!(f, "]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_prints_exports_and_imports_sorted_and_once() {
        let account = Account::new()
            .import_service_as("AUTH", "$JS.API.STREAM.INFO.KV_b", "AUTHJS.STREAM.INFO.KV_b")
            .import_service("AUTH", "auth.login")
            .import_service("AUTH", "auth.login")
            .export_streaming_service("count")
            .export_service_to("EDGE", "$KV.b.k");
        let printed = account.to_string();
        assert_eq!(
            printed,
            "exports: [\n  { service: \"$KV.b.k\", accounts: [EDGE] }\n  { service: \"count\", response_type: stream }\n\
             ]\nimports: [\n  { service: { account: AUTH, subject: \"$JS.API.STREAM.INFO.KV_b\" }, \
             to: \"AUTHJS.STREAM.INFO.KV_b\" }\n  { service: { account: AUTH, subject: \"auth.login\" } }\n]\n"
        );
        assert_eq!(Account::new().to_string(), "");
    }
}
