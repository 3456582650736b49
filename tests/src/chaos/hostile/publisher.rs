use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Maximum time until nats-server has read all bytes.
const LIMIT: Duration = Duration::from_secs(10);
const GREETING: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";

/// A connection to nats-server that sends raw bytes.
pub(super) struct Publisher(BufReader<TcpStream>);

impl Publisher {
    pub(super) async fn connect(port: u16) -> io::Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(GREETING).await?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Subscribes to `subject`; the server has processed the subscription when this returns.
    pub(super) async fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("SUB {subject} 1\r\nPING\r\n").as_bytes()).await?;
        while self.line().await? != "PONG\r\n" {}
        Ok(())
    }

    /// Replies to one request with these headers.
    pub(super) async fn answer(mut self, headers: &[u8]) -> io::Result<()> {
        // `HMSG <subject> <sid> <reply> <size of the headers> <size of all>`
        let mut line;
        let reply = loop {
            line = self.line().await?;
            let mut words = line.split(' ');
            if words.next() == Some("HMSG")
                && let Some(reply) = words.nth(2)
            {
                break reply;
            }
        };
        let answer = [format!("HPUB {reply} {0} {0}\r\n", headers.len()).as_bytes(), headers, b"\r\n"].concat();
        self.0.get_mut().write_all(&answer).await?;
        // The connection must stay open until the server has read the reply.
        self.send(b"").await;
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Sends `bytes`; returns `true` if the server still responds after it has read all of them.
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
