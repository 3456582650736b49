//! Memory for answers.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// Answers are cut from blocks of this size, in bytes.
const BLOCK: usize = 16 * 1024;

thread_local! {
    /// A block that the answers of all loops on this thread share: one for each loop would be the largest part
    /// of what a route costs.
    static ARENA: RefCell<BytesMut> = RefCell::default();
}

/// Copies `body` into a block that many answers share.
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
