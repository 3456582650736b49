/// Why a key document was refused as a whole; the keys in use stay.
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
        /// The version of the refused document.
        found: u64,
    },
    /// In a ring that is [followed](super::KeyRing::watch), its version is higher than any that was counted up to.
    #[error("key document of version {found} cannot be, as it is but change {revision} of its bucket")]
    Version {
        /// The version of the refused document.
        found: u64,
        /// The revision of the bucket that it was found at.
        revision: u64,
    },
    /// A private or symmetric key was published: an alarm, not a nuisance.
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
    /// In a ring that is [followed](super::KeyRing::watch), a key is called by something else than its thumbprint.
    #[error("key {kid:?} is not called by its RFC 7638 thumbprint, {thumbprint:?}")]
    KeyId {
        /// What it is called.
        kid: String,
        /// What it should be called.
        thumbprint: String,
    },
}
