use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces that may be on their way; beyond them the sender is held up, as a full network does.
const PIECES_ON_THE_WAY: usize = 1_024;
/// The most that is read at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// The most that is passed on at a time while pieces are split, in bytes.
const SPLINTER: usize = 2 * 1024;

/// One direction of a connection.
pub(super) struct Direction {
    pub(super) delay: Duration,
    pub(super) split: Option<fastrand::Rng>,
    pub(super) frozen: watch::Receiver<bool>,
}

impl Direction {
    /// Passes bytes on until either end is gone.
    pub(super) async fn pump(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let Self { delay, mut split, mut frozen } = self;
        let (pieces, mut arriving) = mpsc::channel::<(Instant, Bytes)>(PIECES_ON_THE_WAY);
        let read = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                if from.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                if pieces.send((Instant::now() + delay, buffer.split().freeze())).await.is_err() {
                    return Ok(());
                }
            }
        };
        let write = async {
            while let Some((due, mut piece)) = arriving.recv().await {
                tokio::time::sleep_until(due).await;
                while !piece.is_empty() {
                    // The sender lives as long as the connection, which this is a part of.
                    let _ = frozen.wait_for(|frozen| !frozen).await;
                    let size = split.as_mut().map_or(piece.len(), |random| random.usize(1..=SPLINTER));
                    to.write_all(&piece.split_to(size.min(piece.len()))).await?;
                }
            }
            Ok(())
        };
        // What was read before the sender closed still arrives, so only the writer's end is the end.
        tokio::select! {
            ended = write => ended,
            error = async { match read.await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            } } => error,
        }
    }
}
