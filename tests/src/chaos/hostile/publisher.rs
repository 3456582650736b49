use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long nats-server may take to have read everything.
const LIMIT: Duration = Duration::from_secs(10);
const GREETING: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";

/// A connection to nats-server that sends whatever it is given.
pub(super) struct Publisher(BufReader<TcpStream>);

impl Publisher {
    pub(super) async fn connect(port: u16) -> io::Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(GREETING).await?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Sends `bytes`; whether the server still talks to us when it has read them all.
    pub(super) async fn send(mut self, bytes: &[u8]) -> bool {
        let exchange = async {
            self.0.get_mut().write_all(bytes).await?;
            self.0.get_mut().write_all(b"PING\r\n").await?;
            let mut line = Vec::new();
            loop {
                line.clear();
                if self.0.read_until(b'\n', &mut line).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                match &line[..] {
                    b"PONG\r\n" => return Ok(()),
                    b"PING\r\n" => self.0.get_mut().write_all(b"PONG\r\n").await?,
                    _ => {}
                }
            }
        };
        let exchange = tokio::time::timeout(LIMIT, exchange);
        let answered: io::Result<()> = exchange.await.expect("nats-server answers or hangs up");
        answered.is_ok()
    }
}
