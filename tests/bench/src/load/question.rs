use std::io::Write;

/// A request, with its only correct reply.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    subject: String,
    headers: Option<String>,
    payload: String,
    answer: String,
}

impl Question {
    pub(crate) fn new(subject: impl Into<String>, payload: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { subject: subject.into(), headers: None, payload: payload.into(), answer: answer.into() }
    }

    /// Adds headers to the request.
    pub(crate) fn with_headers<'a>(mut self, headers: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut block = "NATS/1.0\r\n".to_owned();
        for (name, value) in headers {
            block += &format!("{name}: {value}\r\n");
        }
        self.headers = Some(block + "\r\n");
        self
    }

    pub(super) fn publish(&self, reply: &Reply<'_>, out: &mut Vec<u8>) {
        let Self { subject, headers, payload, .. } = self;
        let Reply { inbox, run, number } = reply;
        let size = payload.len();
        // Writing to memory cannot fail.
        let _ = match headers {
            None => write!(out, "PUB {subject} {inbox}.{run}.{number:07} {size}\r\n{payload}\r\n"),
            Some(headers) => {
                let block = headers.len();
                let size = block + size;
                write!(out, "HPUB {subject} {inbox}.{run}.{number:07} {block} {size}\r\n{headers}{payload}\r\n")
            }
        };
    }

    /// Returns `true` for the correct reply. A reply with a status or an error header is wrong, whatever its body.
    pub(super) fn is_answered_by(&self, headers: &[u8], payload: &[u8]) -> bool {
        let sound = headers.is_empty() || headers.starts_with(b"NATS/1.0\r\n") && !names_an_error(headers);
        sound && payload == self.answer.as_bytes()
    }
}

fn names_an_error(headers: &[u8]) -> bool {
    memchr::memmem::find(headers, b"Nats-Service-Error").is_some()
}

/// The subject of a reply: the number of the run, and that of the request.
pub(super) struct Reply<'a> {
    pub(super) inbox: &'a str,
    pub(super) run: u32,
    pub(super) number: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn parse(subject: &'a str) -> Option<Self> {
        let (rest, number) = subject.rsplit_once('.')?;
        let (inbox, run) = rest.rsplit_once('.')?;
        Some(Self { inbox, run: run.parse().ok()?, number: number.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(question: &Question) -> String {
        let mut out = Vec::new();
        question.publish(&Reply { inbox: "_INBOX.1", run: 2, number: 3 }, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn sizes_are_those_of_headers_and_payload() {
        let question = Question::new("echo", "{}", "{}");
        assert_eq!(published(&question), "PUB echo _INBOX.1.2.0000003 2\r\n{}\r\n");
        let headed = question.with_headers([("a", "b".to_owned())]);
        assert_eq!(published(&headed), "HPUB echo _INBOX.1.2.0000003 18 20\r\nNATS/1.0\r\na: b\r\n\r\n{}\r\n");
    }

    #[test]
    fn an_answers_subject_says_what_it_answers() {
        let reply = Reply::parse("_INBOX.1.2.0000003").expect("a reply");
        assert_eq!((reply.inbox, reply.run, reply.number), ("_INBOX.1", 2, 3));
        assert!(Reply::parse("echo").is_none());
    }

    #[test]
    fn only_the_right_answer_counts() {
        let question = Question::new("echo", "{}", "{}");
        assert!(question.is_answered_by(b"", b"{}"));
        assert!(question.is_answered_by(b"NATS/1.0\r\ncontent-type: application/json\r\n\r\n", b"{}"));
        assert!(!question.is_answered_by(b"", b"{} "));
        assert!(!question.is_answered_by(b"NATS/1.0 503\r\n\r\n", b""));
        assert!(!question.is_answered_by(b"NATS/1.0 503\r\n\r\n", b"{}"));
        assert!(!question.is_answered_by(b"NATS/1.0\r\nNats-Service-Error: x\r\n\r\n", b"{}"));
    }
}
