/// The reason why a key document was rejected as a whole; the keys in use stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// Not a document of the form shown at [`KeyRing`](super::KeyRing).
    #[error("the key document cannot be read: {0}")]
    Malformed(String),
    /// Its version is not above the one in use.
    #[error("key document of version {found} does not replace version {current}")]
    Stale {
        /// The version in use.
        current: u64,
        /// The version of the rejected document.
        found: u64,
    },
    /// In a [watched](super::KeyRing::watch) ring, its version is implausibly far ahead of the bucket's revision.
    #[error("key document of version {found} cannot be, as it is but change {revision} of its bucket")]
    Version {
        /// The version of the rejected document.
        found: u64,
        /// The bucket's revision of the document.
        revision: u64,
    },
    /// A private or symmetric key was published: a security incident.
    #[error("key {kid:?} holds private or symmetric key material")]
    PrivateKey {
        /// The key's id.
        kid: String,
    },
    /// Two keys have the same id.
    #[error("two keys have the id {kid:?}")]
    DuplicateKeyId {
        /// The id.
        kid: String,
    },
    /// In a [watched](super::KeyRing::watch) ring, a key id is not the key's thumbprint.
    #[error("key {kid:?} is not called by its RFC 7638 thumbprint, {thumbprint:?}")]
    KeyId {
        /// Its key id.
        kid: String,
        /// Its thumbprint.
        thumbprint: String,
    },
}
