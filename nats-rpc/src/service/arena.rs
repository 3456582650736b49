//! Memory for replies.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The size in bytes of a block that replies are cut from.
const BLOCK: usize = 16 * 1024;

thread_local! {
    /// The block that the replies of all loops on this thread share: one block per loop would be the largest part of
    /// the memory of a route.
    static ARENA: RefCell<BytesMut> = RefCell::default();
}

/// Copies `body` into a block that many replies share.
pub(super) fn cut(body: &[u8]) -> Bytes {
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() < body.len() {
            *arena = BytesMut::with_capacity(body.len().max(BLOCK));
        }
        arena.extend_from_slice(body);
        arena.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_its_own_however_many_share_a_block() {
        let bodies: Vec<Vec<u8>> = (0..=255).map(|n| vec![n; usize::from(n) * 8]).collect();
        let cut: Vec<Bytes> = bodies.iter().map(|body| cut(body)).collect();
        assert_eq!(cut, bodies);
    }

    #[test]
    fn an_answer_larger_than_a_block_is_whole() {
        let body = vec![7; 3 * BLOCK];
        assert_eq!(cut(&body), body);
        assert_eq!(cut(b"next"), b"next".as_slice());
    }
}
