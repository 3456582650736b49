//! The NATS client protocol, implemented directly: a client library would reject most attacks.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// The timeout for nats-server to read all bytes that one attack sends.
const LIMIT: Duration = Duration::from_secs(5);
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";

/// One message, sent or received. Every part may contain bytes that client libraries reject.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) subject: Vec<u8>,
    pub(super) reply: Vec<u8>,
    /// The block exactly as on the wire, with version line and final empty line; empty without headers.
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// Returns the bytes of `PUB <subject> [reply] <size>` or `HPUB <subject> [reply] <header size> <total size>`.
    pub(super) fn publish(&self) -> Vec<u8> {
        let Self { subject, reply, headers, payload } = self;
        let (verb, sizes) = match headers.len() {
            0 => ("PUB ", payload.len().to_string()),
            header_size => ("HPUB ", format!("{header_size} {}", header_size + payload.len())),
        };
        let parts = [verb.as_bytes(), subject, b" ", reply, b" ", sizes.as_bytes(), b"\r\n", headers, payload, b"\r\n"];
        parts.concat()
    }

    /// Returns the status code of an error reply; `None` for a success.
    pub(super) fn error_code(&self) -> Option<u16> {
        let headers = String::from_utf8_lossy(&self.headers);
        let code = headers.lines().find_map(|line| line.strip_prefix("Nats-Service-Error-Code:"))?;
        // A malformed code is an error of the service.
        Some(code.trim().parse().unwrap_or(500))
    }

    /// Returns `true` for the reply of a handler that succeeded: neither an error nor a status of nats-server.
    pub(super) fn is_success(&self) -> bool {
        self.error_code().is_none() && !self.headers.starts_with(b"NATS/1.0 ")
    }

    /// Returns `true` if headers or payload contain `text`.
    pub(super) fn contains(&self, text: &str) -> bool {
        [&self.headers, &self.payload].into_iter().any(|part| memchr::memmem::find(part, text.as_bytes()).is_some())
    }

    pub(super) fn is_at(&self, subject: &str) -> bool {
        self.subject == subject.as_bytes()
    }
}

/// Returns a header block of `lines`, each `name: value`.
pub(super) fn header_block<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for line in lines {
        block.extend_from_slice(line.as_ref());
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// A connection to nats-server.
pub(super) struct RawConnection {
    socket: BufReader<TcpStream>,
    /// The largest message that nats-server accepts, in bytes.
    pub(super) max_payload: usize,
}

impl RawConnection {
    /// Connects to `address`, which is `host:port`.
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Info {
            max_payload: usize,
        }
        let mut socket = BufReader::new(TcpStream::connect(address).await?);
        let greeting = line(&mut socket).await?;
        let info = greeting.strip_prefix(b"INFO ").ok_or(io::ErrorKind::InvalidData)?;
        let Info { max_payload } = serde_json::from_slice(info)?;
        socket.get_mut().write_all(CONNECT).await?;
        Ok(Self { socket, max_payload })
    }

    /// Subscribes to `subjects`; nats-server has the subscriptions when this returns.
    pub(super) async fn subscribe<S: AsRef<str>>(&mut self, subjects: impl IntoIterator<Item = S>) -> io::Result<()> {
        let subscriptions: String = subjects
            .into_iter()
            .enumerate()
            .map(|(id, subject)| format!("SUB {} {id}\r\n", subject.as_ref()))
            .collect();
        self.flush(subscriptions.as_bytes()).await
    }

    /// Sends `bytes` and waits until nats-server has processed them.
    ///
    /// # Errors
    /// If nats-server closes the connection instead, or does not reply in time.
    pub(super) async fn flush(&mut self, bytes: &[u8]) -> io::Result<()> {
        let exchange = async {
            self.socket.get_mut().write_all(bytes).await?;
            self.socket.get_mut().write_all(b"PING\r\n").await?;
            while line(&mut self.socket).await? != b"PONG" {}
            Ok(())
        };
        tokio::time::timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Returns the reading and the writing half. The client never replies to the server's pings; the server tolerates
    /// that for minutes.
    pub(super) fn split(self) -> (BufReader<ReadHalf<BufReader<TcpStream>>>, WriteHalf<BufReader<TcpStream>>) {
        let (reader, writer) = tokio::io::split(self.socket);
        (BufReader::new(reader), writer)
    }
}

/// Returns the next message; skips anything else that nats-server sends.
pub(super) async fn next_message(socket: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Message> {
    loop {
        let line = line(socket).await?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let size = |word: &[u8]| -> io::Result<usize> {
            std::str::from_utf8(word)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or(io::ErrorKind::InvalidData.into())
        };
        // `MSG <subject> <sid> [reply] <size>`, `HMSG <subject> <sid> [reply] <header size> <total size>`
        let (subject, reply, header_size, total) = match *words {
            [b"MSG", subject, _, total] => (subject, &[][..], 0, size(total)?),
            [b"MSG", subject, _, reply, total] => (subject, reply, 0, size(total)?),
            [b"HMSG", subject, _, headers, total] => (subject, &[][..], size(headers)?, size(total)?),
            [b"HMSG", subject, _, reply, headers, total] => (subject, reply, size(headers)?, size(total)?),
            _ => continue,
        };
        let mut headers = vec![0; total + 2];
        socket.read_exact(&mut headers).await?;
        headers.truncate(total);
        let payload = headers.split_off(header_size.min(total));
        return Ok(Message { subject: subject.to_vec(), reply: reply.to_vec(), headers, payload });
    }
}

/// Returns the next line, without its end.
async fn line(socket: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        Some(content) => Ok(content.to_vec()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_read_as_nats_server_writes_them() {
        let mut wire: &[u8] =
            b"+OK\r\nMSG a 1 2\r\nhi\r\nPING\r\nHMSG b 2 r 12 14\r\nNATS/1.0\r\n\r\nyo\r\nMSG c\xff 3 r\xff 0\r\n\r\n";
        let mut next = async || {
            let Message { subject, reply, headers, payload } = next_message(&mut wire).await.unwrap();
            (subject, reply, headers.len(), payload)
        };
        assert_eq!(next().await, (b"a".to_vec(), Vec::new(), 0, b"hi".to_vec()));
        assert_eq!(next().await, (b"b".to_vec(), b"r".to_vec(), 12, b"yo".to_vec()));
        assert_eq!(next().await, (b"c\xff".to_vec(), b"r\xff".to_vec(), 0, Vec::new()));
        assert!(next_message(&mut wire).await.is_err(), "the end");
    }

    #[test]
    fn error_code_is_read_from_its_header() {
        let coded = |line: &str| Message { headers: header_block([line]), ..Message::default() }.error_code();
        assert_eq!(coded("Nats-Service-Error-Code: 404"), Some(404));
        assert_eq!(coded("Nats-Service-Error-Code: x"), Some(500));
        assert_eq!(coded("Other: 404"), None);
    }
}
