//! CORS: the origins whose pages may call, by the Fetch standard.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::surround::REQUEST_ID;

/// Time for which a browser may cache a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The origins whose pages may call, none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(Vec<HeaderValue>);

impl Origins {
    /// Parses origins such as `https://app.example.com, http://localhost:5173`; `None` if one is not an origin.
    ///
    /// There is no wildcard: unknown pages must not call.
    pub(crate) fn parse(list: &str) -> Option<Self> {
        list.split(',').map(|origin| parse(origin.trim())).collect::<Option<_>>().map(Self)
    }

    /// Returns the layer that handles preflights and marks responses; `None` if there are no origins.
    pub(crate) fn layer(self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        let headers = [
            AUTHORIZATION,
            CONTENT_TYPE,
            REQUEST_ID.clone(),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ];
        Some(
            CorsLayer::new()
                .allow_origin(AllowOrigin::list(self.0))
                .allow_methods([Method::GET, Method::POST, Method::DELETE])
                .allow_headers(headers)
                .allow_credentials(true)
                .expose_headers([REQUEST_ID.clone(), RETRY_AFTER, WWW_AUTHENTICATE])
                .max_age(MAX_AGE),
        )
    }
}

/// Parses scheme, host and port in the form that browsers send: no path, no default port, lower case.
fn parse(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let is_origin = format!("{scheme}://{authority}") == text
        && text == text.to_lowercase()
        && !text.contains('@')
        && authority.port_u16() != Some(default_port);
    if is_origin { HeaderValue::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_written_as_browsers_send_it() {
        for good in ["https://app.example.com", "http://localhost:5173", "https://a.example, https://b.example:8443"] {
            assert!(Origins::parse(good).is_some(), "{good}");
        }
        for wrong in [
            "*",
            "null",
            "",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://App.example.com",
            "https://eve@app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "ftp://app.example.com",
            "https://a.example,",
        ] {
            assert!(Origins::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Origins::default().layer().is_none());
    }
}
