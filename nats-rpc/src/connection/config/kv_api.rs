use std::collections::BTreeMap;

use super::{NatsConfigError, is_api_prefix};

const NAME: &str = "NATS_KV_API_PREFIXES";

/// The KV buckets of other accounts, each with the prefix of the JetStream API that has it.
///
/// ```
/// use nats_rpc::KvApiPrefixes;
///
/// let vars = |name: &str| (name == "NATS_KV_API_PREFIXES").then(|| "users=APPJS".to_owned());
/// let prefixes = KvApiPrefixes::from_vars(vars)?;
/// assert_eq!((prefixes.of("users"), prefixes.of("orders")), (Some("APPJS"), None));
/// # Ok::<_, nats_rpc::NatsConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvApiPrefixes(BTreeMap<String, String>);

impl KvApiPrefixes {
    /// Reads `NATS_KV_API_PREFIXES`: `bucket=prefix`, separated by commas.
    ///
    /// # Errors
    /// [`NatsConfigError::Variable`] if the value has another form.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, NatsConfigError> {
        let text = vars(NAME).unwrap_or_default();
        let entry = |entry: &str| {
            let (bucket, prefix) = entry.split_once('=')?;
            let is_bucket = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let is_good = !bucket.is_empty() && bucket.bytes().all(is_bucket) && is_api_prefix(prefix);
            is_good.then(|| (bucket.to_owned(), prefix.to_owned()))
        };
        let entries = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        let entries: Option<BTreeMap<_, _>> = entries.map(entry).collect();
        let wanted = "bucket=prefix, separated by commas, such as users=APPJS";
        entries.map(Self).ok_or(NatsConfigError::Variable { name: NAME, wanted })
    }

    /// Returns the prefix of the JetStream API that has `bucket`; `None` for the account's own.
    pub fn of(&self, bucket: &str) -> Option<&str> {
        self.0.get(bucket).map(String::as_str)
    }

    pub(super) fn insert(&mut self, bucket: String, prefix: String) {
        self.0.insert(bucket, prefix);
    }

    /// Returns `true` if each prefix is a subject without wildcards.
    pub(super) fn are_good(&self) -> bool {
        self.0.values().all(|prefix| is_api_prefix(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_or_rejected_whole() {
        let read = |text: &str| KvApiPrefixes::from_vars(|_| Some(text.to_owned()));
        let two = read("users=APPJS, orders=$JS.hub.API,").unwrap();
        assert_eq!((two.of("users"), two.of("orders"), two.of("x")), (Some("APPJS"), Some("$JS.hub.API"), None));
        assert_eq!(read("").unwrap(), KvApiPrefixes::default());
        for bad in ["users", "=A", "users=", "a.b=A", "users=A.*", "users=A,orders", "users=A B"] {
            assert!(matches!(read(bad), Err(NatsConfigError::Variable { name: NAME, .. })), "{bad}");
        }
    }
}
