//! Pages of other origins, and traces that begin in front of the gateway.

use super::*;

const APP: &str = "https://app.example.com";

async fn front_for(server: &NatsServer, origins: &str) -> Front {
    let vars = [("JWT_SECRET", SECRET), ("GATEWAY_CORS_ORIGINS", origins), ("JWT_CHECK_REVOCATIONS", "false")];
    let vars = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_vars(vars).unwrap();
    Front::start_with(server, |_| config.address(([127, 0, 0, 1], 0))).await
}

async fn preflight(front: &Front, origin: &str) -> reqwest::Response {
    let url = format!("http://{}/api/auth/login", front.address);
    let request = front.http.request(reqwest::Method::OPTIONS, url).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    soon(request.header("access-control-request-headers", "content-type,authorization").send()).await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn page_of_a_configured_origin_may_call() {
    let server = server();
    let front = front_for(&server, &format!("{APP}, http://localhost:5173")).await;
    for origin in [APP, "http://localhost:5173"] {
        let response = preflight(&front, origin).await;
        assert_eq!(response.status().as_u16(), 200, "{origin}");
        assert_eq!(header(&response, "access-control-allow-origin"), origin);
        assert_eq!(header(&response, "access-control-allow-methods"), "GET,POST,DELETE");
        let headers = header(&response, "access-control-allow-headers");
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert!(header(&response, "vary").contains("origin"));
    }
    let response = soon(front.get("/healthz").header("origin", APP).send()).await.unwrap();
    assert_eq!(header(&response, "access-control-allow-origin"), APP);
    assert!(header(&response, "access-control-expose-headers").contains("x-request-id"));
    // An error is marked too, or the page could not read it.
    let response = soon(front.get("/api/users/me").header("origin", APP).send()).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "access-control-allow-origin")), (401, APP));
}

#[tokio::test]
async fn page_of_another_origin_may_not_call() {
    let server = server();
    let front = front_for(&server, APP).await;
    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example", "http://app.example.com"] {
        assert_eq!(header(&preflight(&front, origin).await, "access-control-allow-origin"), "", "{origin}");
        let response = soon(front.get("/healthz").header("origin", origin).send()).await.unwrap();
        assert_eq!(header(&response, "access-control-allow-origin"), "", "{origin}");
    }
    // Without the setting there are no preflights at all.
    let front = Front::start(&server).await;
    assert_eq!(preflight(&front, APP).await.status().as_u16(), 405);
}

/// Replies with the trace that it is part of.
#[message_pattern("auth.login")]
async fn traced(headers: Headers) -> Vec<String> {
    ["traceparent", "tracestate"].map(|name| headers.get(name).unwrap_or_default().to_owned()).to_vec()
}

#[tokio::test]
async fn trace_of_a_request_goes_on_behind_the_gateway() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = server();
    let _service = start(&server, Service::new("auth", "1.0.0").handlers(handlers![traced])).await;
    let front = Front::start(&server).await;
    let log_in = async |headers: &[(&str, &str)]| {
        let request = front.post("/api/auth/login").json(&json!({ "email": "e", "password": "p" }));
        let (status, said) =
            answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await;
        assert_eq!(status, 200, "{said}");
        said
    };
    assert_eq!(log_in(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]).await, json!([PARENT, "a=1,b=2"]));
    assert_eq!(
        log_in(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]).await,
        json!([PARENT, "a=1,b=2"])
    );
    assert_eq!(log_in(&[("traceparent", PARENT)]).await, json!([PARENT, ""]));
    for malformed in [
        &[][..],
        &[("traceparent", "00-x-y-01")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("tracestate", "a=1")],
        &[("traceparent", "größe")],
    ] {
        assert_eq!(log_in(malformed).await, json!(["", ""]), "{malformed:?}");
    }
}
