//! The permissions that the user of a service needs on nats-server.

use std::fmt;
use std::time::Duration;

use super::discovery::VERBS;
use super::{Account, Service, StartError};
use crate::route::Kind;

/// The extra time for a reply, beyond its handler's limit.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

/// The permissions of a service's user, in the syntax of nats-server's configuration.
///
/// They cover exactly the declared needs of the service: the subjects of its handlers within their queue groups, its
/// own inbox, the declarations of [`Service::publishes`], [`Service::uses_bucket`] and [`Service::streams`], and one
/// reply to each request. With an [`Account`], they also list the exports and imports of the service's account.
///
/// # Users that may share an account
///
/// nats-server sends the reply of a JetStream request to the reply subject of the request. It does not check whether
/// the requester may publish there. So a user who may send `STREAM.INFO` or `STREAM.MSG.GET` can have JSON written to
/// each bucket of the account. With a direct get or a pull request, the reply is a message that the user stored
/// before, such as a key ring.
///
/// In a single account, grant `DIRECT.GET` and pull requests (`CONSUMER.MSG.NEXT`) only to users whom you trust with
/// every bucket. With several accounts, put only the users whom you trust with its buckets into an account with
/// JetStream. Put all others into accounts without JetStream.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc::KvAccess;
///
/// #[message_pattern("orders.count")]
/// async fn count() -> u64 { 0 }
///
/// let service = Service::new("orders", "1.0.0")
///     .handlers(handlers![count])
///     .publishes("order.placed")
///     .uses_bucket(KvAccess::to("orders").read().write());
/// let permissions = service.permissions()?.to_string();
/// assert!(permissions.contains(r#""orders.count orders""#));
/// assert!(permissions.contains(r#""$KV.orders.>""#));
/// # Ok::<_, nats_rpc::StartError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// The subjects that the user may publish to.
    pub publish: Vec<String>,
    /// The subjects that the user may subscribe to; a blank separates a subject from its queue group, if it has one.
    pub subscribe: Vec<String>,
    /// The time limit for a reply; `None` for a program that sends no replies.
    pub answer_within: Option<Duration>,
    /// Is `true` if a request may have more than one reply.
    pub streams: bool,
    /// The exports and imports of the user's account; `None` if all users are in one account.
    pub account: Option<Account>,
}

impl Permissions {
    /// Returns the permissions of a program that calls `subjects` and sends no replies, such as a gateway.
    ///
    /// `name` is the name of its connection, [`NatsConfig::name`](crate::NatsConfig::name), which determines its
    /// inbox.
    ///
    /// ```
    /// use nats_rpc::{KvAccess, Permissions};
    ///
    /// let needed = Permissions::of_caller("shop", ["orders.count"], [KvAccess::to("auth_jwks").read().watch()]);
    /// assert!(needed.to_string().contains(r#""orders.count""#));
    /// assert!(!needed.to_string().contains("allow_responses"));
    /// ```
    pub fn of_caller<S: Into<String>>(
        name: &str,
        subjects: impl IntoIterator<Item = S>,
        buckets: impl IntoIterator<Item = KvAccess>,
    ) -> Self {
        let inbox = format!("_INBOX_{name}.>");
        let mut called: Vec<String> = subjects.into_iter().map(Into::into).collect();
        called.sort();
        called.dedup();
        let buckets: Vec<KvAccess> = buckets.into_iter().collect();
        let asked = buckets.iter().flat_map(KvAccess::subjects);
        let publish = std::iter::once(inbox.clone()).chain(called).chain(asked).collect();
        let mut watched: Vec<String> = buckets.iter().flat_map(|access| access.subscribe.iter().cloned()).collect();
        watched.sort();
        watched.dedup();
        let subscribe = std::iter::once(inbox).chain(watched).collect();
        let imports = buckets.iter().filter(|access| access.owner.is_some());
        let account = imports
            .fold(None, |account: Option<Account>, access| Some(access.import_into(account.unwrap_or_default())));
        Self { publish, subscribe, answer_within: None, streams: false, account }
    }

    /// Sets the exports and imports of the user's account, in addition to the buckets of other accounts.
    pub fn account(mut self, account: Account) -> Self {
        self.account = Some(account.and(self.account.take().unwrap_or_default()));
        self
    }
}

/// The access of a service to a KV bucket, for [`Service::uses_bucket`].
///
/// A user who may write a bucket and watch it, or read it by direct get, can make nats-server send the written text to
/// any subject of the account. Grant both only to a user who may publish there anyway.
/// [`Permissions`] lists the users that may share an account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct KvAccess {
    bucket: String,
    read: bool,
    /// The key that the service may write, or `>` for all.
    write: Option<String>,
    watch: bool,
    /// The core subjects on which changes are republished.
    subscribe: Vec<String>,
    batch: bool,
    /// The account that has the bucket, and the prefix of its JetStream API here.
    owner: Option<(String, String)>,
}

impl KvAccess {
    /// Grants only opening `bucket` and reading its configuration.
    pub fn to(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            read: false,
            write: None,
            watch: false,
            subscribe: Vec::new(),
            batch: false,
            owner: None,
        }
    }

    /// Grants reading single keys, from the leader.
    pub fn read(mut self) -> Self {
        self.read = true;
        self
    }

    /// Grants writing and deleting keys.
    pub fn write(mut self) -> Self {
        self.write = Some(">".to_owned());
        self
    }

    /// Grants writing and deleting `key` alone.
    pub fn write_key(mut self, key: impl Into<String>) -> Self {
        self.write = Some(key.into());
        self
    }

    /// Grants watching: the service receives every key and every change, and requests the last record from the leader.
    ///
    /// A watch needs a consumer on the server for each process.
    pub fn watch(mut self) -> Self {
        self.watch = true;
        self
    }

    /// Grants reading all keys at once, by a batched direct get from any replica of the bucket.
    ///
    /// In a single account, grant this only to a user whom you trust with every bucket; see [`Permissions`].
    pub fn read_all(mut self) -> Self {
        self.batch = true;
        self
    }

    /// Grants subscribing to `subject`, to which the bucket's stream republishes changes.
    pub fn subscribe(mut self, subject: impl Into<String>) -> Self {
        self.subscribe.push(subject.into());
        self
    }

    /// Declares that the bucket is in `account`, whose JetStream API the service's own account imports below
    /// `api_prefix`.
    ///
    /// Such a bucket is never [watched](Self::watch): the requester could make a consumer deliver to any subject
    /// there. See [`NatsConfig::kv_api_prefix`](crate::NatsConfig::kv_api_prefix).
    pub fn in_account(mut self, account: impl Into<String>, api_prefix: impl Into<String>) -> Self {
        self.owner = Some((account.into(), api_prefix.into()));
        self
    }

    /// Returns the requests to the JetStream API, without its prefix.
    fn requests(&self) -> Vec<String> {
        let bucket = &self.bucket;
        let mut requests = vec![format!("STREAM.INFO.KV_{bucket}")];
        // A watcher asks the leader for the last revision, because the replica that delivers may be behind.
        if self.read || self.watch || self.batch {
            requests.push(format!("STREAM.MSG.GET.KV_{bucket}"));
        }
        if self.batch {
            requests.push(format!("DIRECT.GET.KV_{bucket}"));
        }
        // A consumer delivers to any subject of its account, so no other account may create one.
        if self.watch && self.owner.is_none() {
            // Each consumer gets a new name, which other users cannot guess.
            requests.push(format!("CONSUMER.CREATE.KV_{bucket}.*.$KV.{bucket}.>"));
            requests.push(format!("CONSUMER.DELETE.KV_{bucket}.*"));
        }
        requests
    }

    fn subjects(&self) -> Vec<String> {
        let prefix = self.owner.as_ref().map_or("$JS.API", |(_, prefix)| prefix);
        let mut subjects: Vec<String> =
            self.requests().into_iter().map(|request| format!("{prefix}.{request}")).collect();
        subjects.extend(self.written());
        subjects
    }

    /// Returns the subject for writes to the bucket, if the service writes to it.
    fn written(&self) -> Option<String> {
        self.write.as_ref().map(|key| format!("$KV.{}.{key}", self.bucket))
    }

    /// Adds the imports of the service's account, if the bucket is in another account.
    fn import_into(&self, account: Account) -> Account {
        let Some((owner, prefix)) = &self.owner else { return account };
        let account = self.requests().into_iter().fold(account, |account, request| {
            account.import_service_as(owner, format!("$JS.API.{request}"), format!("{prefix}.{request}"))
        });
        let account = self.subscribe.iter().fold(account, |account, subject| account.import_stream(owner, subject));
        match self.written() {
            Some(written) => account.import_service(owner, written),
            None => account,
        }
    }
}

impl Service {
    /// Declares that the service calls, or emits to, `subject`; `*` matches any token, `>` all following tokens.
    ///
    /// It has no effect at run time; [`permissions`](Self::permissions) uses it.
    pub fn publishes(mut self, subject: impl Into<String>) -> Self {
        self.publishes.push(subject.into());
        self
    }

    /// Declares that handlers reply with a [`Streaming`](crate::Streaming), which sends several replies to a request.
    ///
    /// It has no effect at run time; [`permissions`](Self::permissions) uses it.
    pub fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// Declares the service's access to a KV bucket, for [`permissions`](Self::permissions).
    pub fn uses_bucket(mut self, access: KvAccess) -> Self {
        self.buckets.push(access);
        self
    }

    /// Returns the subjects that the service declares to publish to.
    pub(super) fn declared_subjects(&self) -> impl Iterator<Item = String> {
        self.publishes.iter().cloned().chain(self.buckets.iter().flat_map(KvAccess::subjects))
    }

    /// Declares that the callers of the service are in other accounts of nats-server.
    ///
    /// `account` has the exports and imports in addition to those that the service derives: its handlers, its `$SRV`
    /// subjects, and the buckets of other accounts.
    ///
    /// It has no effect at run time; [`permissions`](Self::permissions) uses it.
    pub fn account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Returns the permissions that the service's user needs on nats-server; the command `permissions` prints them.
    ///
    /// # Errors
    /// [`StartError::Invalid`] if the handlers conflict.
    pub fn permissions(&self) -> Result<Permissions, StartError> {
        let table = self.table()?;
        let name = &self.info.name;
        let asking = Permissions::of_caller(name, self.publishes.iter().map(String::as_str), self.buckets.clone());

        let discovery = VERBS.iter().flat_map(|verb| {
            let all = format!("$SRV.{verb}");
            [format!("{all}.{name}"), format!("{all}.{name}.*"), all]
        });
        let handlers = table.entries().iter().map(|entry| match &entry.queue {
            Some(queue) => format!("{} {queue}", entry.pattern.subject()),
            None => entry.pattern.subject().to_owned(),
        });
        let (mut discovery, mut handlers): (Vec<_>, Vec<_>) = (discovery.collect(), handlers.collect());
        for subjects in [&mut discovery, &mut handlers] {
            subjects.sort();
            subjects.dedup();
        }
        let subscribe = asking.subscribe.iter().cloned().chain(discovery).chain(handlers).collect();

        let own_limits = table.entries().iter().filter_map(|entry| entry.route.timeout_ms).map(Duration::from_millis);
        let longest = own_limits.chain([self.limits.timeout]).max().unwrap_or_default();
        let account = self.account.clone().map(|account| {
            let requests = table.entries().iter().filter(|entry| entry.route.kind == Kind::Message);
            let export = |account: Account, subject: &str| match self.streams {
                true => account.export_streaming_service(subject),
                false => account.export_service(subject),
            };
            let account = requests.fold(account, |account, entry| export(account, entry.pattern.subject()));
            // Each instance replies to a `$SRV` request.
            let account = account.export_streaming_service("$SRV.>");
            account.and(asking.account.clone().unwrap_or_default())
        });
        let answer_within = Some(longest + ANSWER_GRACE);
        Ok(Permissions { subscribe, answer_within, streams: self.streams, account, ..asking })
    }
}

/// Returns `true` if nats-server replies to a request at `subject` with stored messages as they are.
fn sends_what_is_stored(subject: &str) -> bool {
    subject.contains(".DIRECT.GET.") || subject.contains(".CONSUMER.MSG.NEXT.")
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account.is_none() && self.publish.iter().any(|subject| sends_what_is_stored(subject)) {
            writeln!(f, "# Sends stored messages to any subject: only for a user whom every bucket is trusted to.")?;
        }
        writeln!(f, "permissions: {{")?;
        for (verb, subjects) in [("publish", &self.publish), ("subscribe", &self.subscribe)] {
            writeln!(f, "  {verb}: {{ allow: [")?;
            for subject in subjects {
                writeln!(f, "    {subject:?}")?;
            }
            writeln!(f, "  ] }}")?;
        }
        if let Some(limit) = self.answer_within {
            // Whole seconds, rounded up: nats-server reads no fractions here.
            let seconds = limit.as_millis().div_ceil(1_000);
            // A negative number means any number of replies.
            let most = if self.streams { -1 } else { 1 };
            writeln!(f, "  allow_responses: {{ max: {most}, expires: \"{seconds}s\" }}")?;
        }
        writeln!(f, "}}")?;
        match &self.account {
            Some(account) => write!(f, "{account}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_opened_read_written_and_followed_by_different_subjects() {
        let subjects = |access: KvAccess| access.subjects().join(" ");
        assert_eq!(subjects(KvAccess::to("b")), "$JS.API.STREAM.INFO.KV_b");
        assert_eq!(
            subjects(KvAccess::to("b").read().write()),
            "$JS.API.STREAM.INFO.KV_b $JS.API.STREAM.MSG.GET.KV_b $KV.b.>"
        );
        assert_eq!(subjects(KvAccess::to("b").write_key("k")), "$JS.API.STREAM.INFO.KV_b $KV.b.k");
        let followed = subjects(KvAccess::to("b").watch());
        let consumer = "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.> $JS.API.CONSUMER.DELETE.KV_b.*";
        assert_eq!(followed, format!("$JS.API.STREAM.INFO.KV_b $JS.API.STREAM.MSG.GET.KV_b {consumer}"));
        let all = subjects(KvAccess::to("b").read_all());
        assert_eq!(all, "$JS.API.STREAM.INFO.KV_b $JS.API.STREAM.MSG.GET.KV_b $JS.API.DIRECT.GET.KV_b");
    }

    #[test]
    fn direct_get_in_a_single_account_comes_with_a_warning() {
        let printed = |access: KvAccess| Permissions::of_caller("shop", ["orders.count"], [access]).to_string();
        assert!(printed(KvAccess::to("b").read_all()).starts_with("# "));
        assert!(printed(KvAccess::to("b").read().watch()).starts_with("permissions: "));
        assert!(printed(KvAccess::to("b").read_all().in_account("AUTH", "AUTHJS")).starts_with("permissions: "));
    }

    #[test]
    fn bucket_of_another_account_is_imported() {
        let access = KvAccess::to("b").read().subscribe("watch.b.>").write_key("k").in_account("AUTH", "AUTHJS");
        let needed = Permissions::of_caller("shop", ["orders.count"], [access]);
        let asked = ["orders.count", "AUTHJS.STREAM.INFO.KV_b", "AUTHJS.STREAM.MSG.GET.KV_b", "$KV.b.k"];
        assert_eq!(needed.publish[1..], asked);
        assert_eq!(needed.subscribe, ["_INBOX_shop.>", "watch.b.>"]);
        let account = needed.clone().account(Account::new().import_service("APP", "orders.count")).account.unwrap();
        let imports: Vec<_> = account.imports().collect();
        assert_eq!(
            imports,
            [
                r#"{ service: { account: APP, subject: "orders.count" } }"#,
                r#"{ service: { account: AUTH, subject: "$JS.API.STREAM.INFO.KV_b" }, to: "AUTHJS.STREAM.INFO.KV_b" }"#,
                r#"{ service: { account: AUTH, subject: "$JS.API.STREAM.MSG.GET.KV_b" }, to: "AUTHJS.STREAM.MSG.GET.KV_b" }"#,
                r#"{ service: { account: AUTH, subject: "$KV.b.k" } }"#,
                r#"{ stream: { account: AUTH, subject: "watch.b.>" } }"#,
            ]
        );
        assert!(needed.to_string().contains("imports: ["), "{needed}");
        let single = Permissions::of_caller("shop", ["orders.count"], [KvAccess::to("b").read()]);
        assert!(single.account.is_none() && !single.to_string().contains("imports"), "{single}");
    }

    #[test]
    fn an_answer_may_take_as_long_as_the_slowest_handler() {
        let limits = crate::Limits { timeout: Duration::from_millis(90_001), ..crate::Limits::default() };
        let service = Service::new("s", "1.0.0").limits(limits);
        // Without handlers, there is nothing to permit.
        assert!(matches!(service.permissions(), Err(StartError::Invalid(_))));
        let permissions = Permissions {
            publish: vec!["a".to_owned()],
            subscribe: vec!["b q".to_owned()],
            answer_within: Some(limits.timeout + ANSWER_GRACE),
            streams: false,
            account: None,
        };
        assert!(permissions.to_string().contains(r#"max: 1, expires: "121s""#), "{permissions}");
        let permissions = Permissions { streams: true, ..permissions };
        assert!(permissions.to_string().contains(r#"max: -1, expires: "121s""#), "{permissions}");
    }
}
