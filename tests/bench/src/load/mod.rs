//! The load generator: implements the NATS protocol itself, on one connection and one thread.
//!
//! A client library would use as much of the machine as the measured services.

mod open;
mod protocol;
mod question;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub(crate) use self::open::Offer;
use self::protocol::{Frame, Malformed, first_frame};
pub(crate) use self::question::Question;
use self::question::Reply;
use crate::stats::percentile;

/// Maximum time without bytes from the service while replies are pending.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection that sends requests.
pub(crate) struct Loader {
    socket: TcpStream,
    inbox: String,
    run: u32,
    received: Vec<u8>,
    out: Vec<u8>,
}

/// The result of a run in which every reply was correct.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) requests: usize,
    pub(crate) took: Duration,
    /// Latencies in microseconds, sorted.
    latencies: Vec<u32>,
}

impl Run {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn latency_us(&self, percent: f64) -> u32 {
        percentile(&self.latencies, percent)
    }
}

/// The reason why a run does not count.
#[derive(Debug)]
pub(crate) enum LoadError {
    Io(io::Error),
    Protocol(String),
    /// Wrong replies, with the first of them.
    Wrong {
        count: usize,
        first: String,
    },
    /// The run exceeded its time limit.
    TooLong(Duration),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                write!(f, "no answer came for {SILENCE:?}")
            }
            Self::Io(error) => write!(f, "the connection of the load generator: {error}"),
            Self::Protocol(what) => write!(f, "nats-server said: {what}"),
            Self::Wrong { count, first } => write!(f, "{count} answers were wrong, the first of them: {first}"),
            Self::TooLong(limit) => write!(f, "it was not done after {limit:?}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Loader {
    /// Connects to a nats-server on this machine.
    pub(crate) fn connect(port: u16) -> Result<Self, LoadError> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        let inbox = format!("_INBOX.bench{}", std::process::id());
        let mut loader = Self { socket, inbox, run: 0, received: Vec::new(), out: Vec::new() };
        let options =
            r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"bench","version":"0"}"#;
        let inbox = &loader.inbox;
        write!(loader.out, "CONNECT {options}\r\nSUB {inbox}.> 1\r\nPING\r\n")?;
        loader.flush()?;
        let mut heard = false;
        while !heard {
            loader.receive()?;
            loader.each_frame(|frame, _| heard |= frame == Frame::Pong)?;
        }
        Ok(loader)
    }

    /// Sends requests until the first correct reply; returns the time that took.
    pub(crate) fn wait_for_answer(&mut self, question: &Question, limit: Duration) -> Result<Duration, LoadError> {
        let start = Instant::now();
        loop {
            match self.ask(std::slice::from_ref(question), 1, 1, limit) {
                Ok(_) => return Ok(start.elapsed()),
                Err(LoadError::Wrong { .. }) if start.elapsed() < limit => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends `total` requests, each of `questions` in turn, with `in_flight` requests pending at any time.
    ///
    /// # Errors
    /// If a reply is wrong or missing, or the run exceeds `limit`.
    pub(crate) fn ask(
        &mut self,
        questions: &[Question],
        total: usize,
        in_flight: usize,
        limit: Duration,
    ) -> Result<Run, LoadError> {
        self.run += 1;
        let run = self.run;
        let mut open: Vec<(Instant, usize)> = Vec::with_capacity(in_flight);
        let mut latencies = Vec::with_capacity(total);
        let mut wrong = Wrong::default();
        let start = Instant::now();
        for number in 0..in_flight.min(total) {
            open.push((start, number % questions.len()));
            questions[number % questions.len()].publish(&Reply { inbox: &self.inbox, run, number }, &mut self.out);
        }
        let mut asked = open.len();
        self.flush()?;
        while latencies.len() < total {
            self.receive()?;
            let now = Instant::now();
            let inbox = self.inbox.clone();
            self.each_frame(|frame, out| {
                let Frame::Message { subject, headers, payload } = frame else { return };
                let Some(reply) = Reply::parse(subject).filter(|reply| reply.run == run) else { return };
                let Some((asked_at, question)) = open.get_mut(reply.number) else { return };
                wrong.unless(questions[*question].is_answered_by(headers, payload), headers, payload);
                latencies.push(micros(now - *asked_at));
                if asked < total {
                    (*asked_at, *question) = (now, asked % questions.len());
                    questions[*question].publish(&Reply { inbox: &inbox, run, number: reply.number }, out);
                    asked += 1;
                }
            })?;
            self.flush()?;
            if start.elapsed() > limit {
                return Err(LoadError::TooLong(limit));
            }
        }
        let took = start.elapsed();
        wrong.into_result()?;
        latencies.sort_unstable();
        Ok(Run { requests: total, took, latencies })
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        let size = self.socket.read(&mut chunk)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&chunk[..size]);
        Ok(())
    }

    /// Passes every complete frame to `take`, with the buffer of the next write.
    fn each_frame(&mut self, mut take: impl FnMut(Frame<'_>, &mut Vec<u8>)) -> Result<(), LoadError> {
        let mut done = 0;
        let malformed = |Malformed| LoadError::Protocol("something that is no frame".to_owned());
        while let Some((frame, length)) = first_frame(&self.received[done..]).map_err(malformed)? {
            done += length;
            match frame {
                Frame::Ping => self.out.extend_from_slice(b"PONG\r\n"),
                Frame::Refusal(why) => return Err(LoadError::Protocol(why.to_owned())),
                frame => take(frame, &mut self.out),
            }
        }
        self.received.drain(..done);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Wrong replies, of which the first is kept.
#[derive(Default)]
struct Wrong {
    count: usize,
    first: Option<String>,
}

impl Wrong {
    fn unless(&mut self, right: bool, headers: &[u8], payload: &[u8]) {
        if right {
            return;
        }
        self.count += 1;
        self.first.get_or_insert_with(|| {
            let text = [headers, payload].concat();
            String::from_utf8_lossy(&text[..text.len().min(400)]).into_owned()
        });
    }

    fn into_result(self) -> Result<(), LoadError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(LoadError::Wrong { count: self.count, first }),
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Starts a server that replies to each request with `answer`, and echoes one extra payload first.
    fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a connection");
            let mut out = socket.try_clone().expect("a second handle");
            out.write_all(b"INFO {}\r\nPING\r\n").expect("sent");
            for line in BufReader::new(socket).lines() {
                let line = line.unwrap_or_default();
                let words: Vec<&str> = line.split(' ').collect();
                let said = match words.as_slice() {
                    ["PING"] => "PONG\r\n".to_owned(),
                    ["PUB", _, reply, _] => format!("MSG {reply} 1 {}\r\n{answer}\r\n", answer.len()),
                    _ => continue,
                };
                if out.write_all(said.as_bytes()).is_err() {
                    return;
                }
            }
        });
        port
    }

    #[test]
    fn every_question_is_asked_once_and_its_answer_checked() {
        let mut loader = Loader::connect(server("{}")).expect("connected");
        let run = loader.ask(&[Question::new("echo", "{}", "{}")], 1_000, 16, LIMIT).expect("right answers");
        assert_eq!((run.requests, run.latencies.len()), (1_000, 1_000));
        assert!(run.latency_us(50.0) <= run.latency_us(99.0));
        assert!(run.per_second() > 0.0);
    }

    #[test]
    fn wrong_answers_are_counted_and_end_the_bench() {
        let mut loader = Loader::connect(server("{}")).expect("connected");
        let questions = [Question::new("a", "{}", "{}"), Question::new("b", "{}", "[]")];
        let error = loader.ask(&questions, 100, 4, LIMIT).expect_err("wrong answers");
        assert!(matches!(error, LoadError::Wrong { count: 50, ref first } if first == "{}"), "{error}");
    }

    #[test]
    fn a_run_of_fewer_questions_than_may_be_open_ends() {
        let mut loader = Loader::connect(server("{}")).expect("connected");
        assert_eq!(loader.ask(&[Question::new("a", "{}", "{}")], 3, 64, LIMIT).expect("a run").requests, 3);
    }
}
