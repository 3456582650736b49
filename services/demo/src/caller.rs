//! Calls over HTTP and over NATS, with comparable replies.

use std::fmt;
use std::time::Duration;

use async_nats::{HeaderMap, Request};
use nats_rpc::{CallError, Client, Connection, NatsConfig};
use serde_json::{Value, json};

use crate::BoxError;

/// A reply: a status, for HTTP and NATS alike, and a body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// Returns the text of a field of the body.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field)?.as_str()
    }
}

impl fmt::Display for Answer {
    /// Prints the status with the error's code, or with the names of the fields: values are personal or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match (self.text("code"), &self.body) {
            (Some(code), _) => write!(f, " {code}"),
            (None, Value::Object(fields)) => {
                write!(f, " {{{}}}", fields.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            (None, _) => Ok(()),
        }
    }
}

/// A client of the system: of its gateway and of its nats-server.
pub(crate) struct Caller {
    http: reqwest::Client,
    gateway_url: String,
    connection: Connection,
    client: Client,
}

impl Caller {
    pub(crate) async fn connect(nats: &NatsConfig, gateway_url: &str) -> Result<Self, BoxError> {
        let connection = Connection::open(nats).await?;
        Ok(Self {
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?,
            gateway_url: gateway_url.to_owned(),
            client: Client::new(connection.clone()).timeout(Duration::from_secs(30)),
            connection,
        })
    }

    /// Sends a `POST` with a body, and a token if there is one.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Result<Answer, BoxError> {
        let request = self.http.post(format!("{}{path}", self.gateway_url)).json(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.json().await? })
    }

    /// Calls directly over NATS, with the token in a header if there is one.
    pub(crate) async fn call(&self, subject: &str, token: Option<&str>, data: &Value) -> Result<Answer, BoxError> {
        let client = match token {
            Some(token) => self.client.bearer(token),
            None => self.client.clone(),
        };
        match client.send(subject, data).await {
            Ok(body) => Ok(Answer { status: 200, body }),
            Err(CallError::Remote(error)) => {
                let code = error.code().map(|code| code.as_str());
                Ok(Answer { status: error.status(), body: json!({ "code": code, "message": error.message() }) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the bytes that NestJS would send, and returns the reply.
    pub(crate) async fn call_as_nest(
        &self,
        subject: &'static str,
        token: Option<&str>,
        envelope: &Value,
    ) -> Result<Value, BoxError> {
        let mut request = Request::new().payload(envelope.to_string().into());
        if let Some(token) = token {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}"));
            request = request.headers(headers);
        }
        let answer = self.connection.nats().send_request(subject, request).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }
}
