use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Maximum number of pieces in transit; then the sender blocks, as on a full network.
const PIECES_ON_THE_WAY: usize = 1_024;
/// Maximum number of bytes per read.
const PIECE: usize = 64 * 1024;
/// Maximum number of bytes per write while pieces are split.
const SPLINTER: usize = 2 * 1024;

/// One direction of a connection.
pub(super) struct Direction {
    pub(super) delay: Duration,
    pub(super) split: Option<fastrand::Rng>,
    pub(super) frozen: watch::Receiver<bool>,
}

impl Direction {
    /// Forwards bytes until either end is gone.
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
                    // The sender lives as long as the connection, which this direction belongs to.
                    let _ = frozen.wait_for(|frozen| !frozen).await;
                    let size = split.as_mut().map_or(piece.len(), |random| random.usize(1..=SPLINTER));
                    to.write_all(&piece.split_to(size.min(piece.len()))).await?;
                }
            }
            Ok(())
        };
        // Bytes read before the sender closed still arrive, so only the writer's end stops this.
        tokio::select! {
            ended = write => ended,
            error = async { match read.await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            } } => error,
        }
    }
}
