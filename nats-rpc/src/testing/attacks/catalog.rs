//! All attacks.

mod envelopes;
mod headers;
mod payloads;
mod poison;
mod reply_subjects;
mod sizes;
mod tokens;

pub(super) use self::payloads::MARK;
pub(super) use self::reply_subjects::{is_own, watched};
use super::attack::Attack;
use super::bucket::Bucket;
use super::target::Target;

/// Returns the attacks on `target`, which try to write into `bucket`.
pub(super) fn attacks(target: &Target, bucket: &Bucket) -> Vec<Attack> {
    let mut attacks = reply_subjects::attacks(target, bucket);
    attacks.extend(tokens::attacks(target));
    attacks.extend(envelopes::attacks(target));
    attacks.extend(headers::attacks(target));
    attacks.extend(payloads::attacks(target));
    attacks.extend(sizes::attacks(target));
    attacks.extend(poison::attacks(target));
    attacks
}
