//! What the user of a service needs on nats-server.

use std::fmt;
use std::time::Duration;

use super::discovery::VERBS;
use super::{Service, StartError};

/// What an answer may take longer than its handler's limit.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

/// What the user of a service must be allowed, in the syntax of nats-server's configuration.
///
/// It is all that the service needs and nothing more, as far as the service was told of: the subjects of its
/// handlers within their queue groups, its own inbox, what [`Service::publishes`], [`Service::uses_bucket`] and
/// [`Service::streams`] declare, one answer to each request.
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
    /// The subjects that it may publish to.
    pub publish: Vec<String>,
    /// The subjects that it may subscribe to, each with its queue group, if it has one, behind a blank.
    pub subscribe: Vec<String>,
    /// How long an answer may take; `None` for a program that answers nobody.
    pub answer_within: Option<Duration>,
    /// Whether a request may have more than one answer.
    pub streams: bool,
}

impl Permissions {
    /// What the user of a program must be allowed that calls `subjects`, and answers nobody; such as a gateway.
    ///
    /// `name` is that of its connection, [`NatsConfig::name`](crate::NatsConfig::name), whose inbox it reads.
    ///
    /// ```
    /// use nats_rpc::{KvAccess, Permissions};
    ///
    /// let needed = Permissions::of_caller("shop", ["orders.count"], [KvAccess::to("auth_jwks").read().follow()]);
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
        let buckets = buckets.into_iter().flat_map(|access| access.subjects());
        let publish = std::iter::once(inbox.clone()).chain(called).chain(buckets).collect();
        Self { publish, subscribe: vec![inbox], answer_within: None, streams: false }
    }
}

/// What a service does with a KV bucket, for [`Service::uses_bucket`].
///
/// Whoever may write a bucket and follow it, or get from it directly, can make nats-server send what they
/// wrote to any subject of the account: grant both to nobody who may not do that anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct KvAccess {
    bucket: String,
    read: bool,
    /// The key that is written, or `>` for all.
    write: Option<String>,
    follow: bool,
}

impl KvAccess {
    /// No more than opening `bucket` and seeing how it was made.
    pub fn to(bucket: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), read: false, write: None, follow: false }
    }

    /// Reads single keys, from the leader.
    pub fn read(mut self) -> Self {
        self.read = true;
        self
    }

    /// Writes and deletes keys.
    pub fn write(mut self) -> Self {
        self.write = Some(">".to_owned());
        self
    }

    /// Writes and deletes `key` alone.
    pub fn write_key(mut self, key: impl Into<String>) -> Self {
        self.write = Some(key.into());
        self
    }

    /// Is told of every key and every change, as a watch is, and asks the leader what the last one was.
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    fn subjects(&self) -> Vec<String> {
        let bucket = &self.bucket;
        let mut subjects = vec![format!("$JS.API.STREAM.INFO.KV_{bucket}")];
        // Who follows asks the leader how far there is to come: whoever delivers may be behind.
        if self.read || self.follow {
            subjects.push(format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"));
        }
        if self.follow {
            subjects.push(format!("$JS.API.CONSUMER.CREATE.KV_{bucket}"));
            // A consumer that missed something is replaced, by one with a name; others cannot guess it.
            subjects.push(format!("$JS.API.CONSUMER.CREATE.KV_{bucket}.*.$KV.{bucket}.>"));
            subjects.push(format!("$JS.API.CONSUMER.DELETE.KV_{bucket}.*"));
            subjects.push(format!("$JS.FC.KV_{bucket}.>"));
        }
        subjects.extend(self.write.iter().map(|key| format!("$KV.{bucket}.{key}")));
        subjects
    }
}

impl Service {
    /// Declares that the service calls, or emits to, `subject`; `*` stands for any token, `>` for all that follow.
    ///
    /// Nothing is checked at run time: it is for [`permissions`](Self::permissions).
    pub fn publishes(mut self, subject: impl Into<String>) -> Self {
        self.publishes.push(subject.into());
        self
    }

    /// Declares that handlers answer with a [`Streaming`](crate::Streaming), for which a request may be answered
    /// more than once.
    ///
    /// Nothing is checked at run time: it is for [`permissions`](Self::permissions).
    pub fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// Declares what the service does with a KV bucket, for [`permissions`](Self::permissions).
    pub fn uses_bucket(mut self, access: KvAccess) -> Self {
        self.buckets.push(access);
        self
    }

    /// The subjects that it declares to publish to.
    pub(super) fn declared_subjects(&self) -> impl Iterator<Item = String> {
        self.publishes.iter().cloned().chain(self.buckets.iter().flat_map(KvAccess::subjects))
    }

    /// What the service's user must be allowed on nats-server; what the command `permissions` prints.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the handlers contradict each other.
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
        Ok(Permissions { subscribe, answer_within: Some(longest + ANSWER_GRACE), streams: self.streams, ..asking })
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            // Less than none is any number of answers.
            let most = if self.streams { -1 } else { 1 };
            writeln!(f, "  allow_responses: {{ max: {most}, expires: \"{seconds}s\" }}")?;
        }
        writeln!(f, "}}")
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
        let followed = subjects(KvAccess::to("b").follow());
        assert!(followed.contains("STREAM.MSG.GET.KV_b ") && followed.contains("CONSUMER.CREATE.KV_b "), "{followed}");
        assert!(!followed.contains(" $KV."), "{followed}");
    }

    #[test]
    fn an_answer_may_take_as_long_as_the_slowest_handler() {
        let limits = crate::Limits { timeout: Duration::from_millis(90_001), ..crate::Limits::default() };
        let service = Service::new("s", "1.0.0").limits(limits);
        // Without handlers there is nothing to permit.
        assert!(matches!(service.permissions(), Err(StartError::Refused(_))));
        let permissions = Permissions {
            publish: vec!["a".to_owned()],
            subscribe: vec!["b q".to_owned()],
            answer_within: Some(limits.timeout + ANSWER_GRACE),
            streams: false,
        };
        assert!(permissions.to_string().contains(r#"max: 1, expires: "121s""#), "{permissions}");
        let permissions = Permissions { streams: true, ..permissions };
        assert!(permissions.to_string().contains(r#"max: -1, expires: "121s""#), "{permissions}");
    }
}
