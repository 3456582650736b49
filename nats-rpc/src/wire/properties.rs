//! Properties of every message and every reply.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::Code;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z\"\\\\é]{0,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn wire() -> impl Strategy<Value = WireFormat> {
    prop::sample::select(vec![WireFormat::Auto, WireFormat::Nest, WireFormat::Native])
}

/// Mostly text that is almost an envelope.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[\\[\\]{}:,\"0-9a]{0,32}".prop_map(String::into_bytes),
        "\\{(\"(pattern|data|id)\":(\"e\"|1|null|\\{\\}|\\[),?){0,4}\\}?".prop_map(String::into_bytes),
        value().prop_map(|value| value.to_string().into_bytes()),
    ]
}

/// The members of an envelope in any order, among others.
fn envelope(data: &Value, id: &Value) -> impl Strategy<Value = String> + use<> {
    let members = vec![
        format!("\"pattern\":{}", json!("e")),
        format!("\"data\":{data}"),
        format!("\"id\":{id}"),
        "\"other\":[1]".to_owned(),
    ];
    Just(members).prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(", ")))
}

/// Text that is, or almost is, an envelope as NestJS's own client writes it.
fn usual() -> impl Strategy<Value = (String, String)> {
    let subject = prop_oneof![4 => "[a-z.]{1,6}", 1 => "[a-z\"\\\\é\u{1}]{1,4}"];
    let data = prop_oneof![
        4 => value().prop_map(|value| value.to_string()),
        1 => "( )?(1|\"a\"|\\{\\}|\\[)( )?(,\"(id|data|x)\":1)?( )?",
    ];
    let id = prop_oneof![
        3 => "[0-9a-f]{21}".prop_map(|digits| format!(",\"id\":\"{digits}\"")),
        1 => "[0-9a-fF]{20,22}".prop_map(|digits| format!(",\"id\":\"{digits}\"")),
        1 => "(,\"id\":(1|null|\"a\"))?",
    ];
    (subject, data, id, "( |\\}|\n){0,1}").prop_map(|(subject, data, id, end)| {
        let body = format!("{{\"pattern\":\"{subject}\",\"data\":{data}{id}}}{end}");
        (subject, body)
    })
}

fn error() -> impl Strategy<Value = RpcError> {
    let code = (400_u16..505).prop_filter_map("a code", Code::from_status);
    (code, "\\PC{0,400}|.{0,40}|[\r\n\t ]{0,4}").prop_map(|(code, message)| RpcError::new(code, message))
}

proptest! {
    #[test]
    fn any_body_is_opened_or_refused_and_the_data_is_a_part_of_it(
        wire in wire(), body in body(), wants_answer in any::<bool>(),
    ) {
        let body = Bytes::from(body);
        match open(wire, "e", body.clone(), wants_answer) {
            Ok(Opened { data: Some(data), .. }) => {
                let whole = body.as_ptr_range();
                prop_assert!(data.is_empty() || whole.contains(&data.as_ptr()), "no copy is made");
                prop_assert!(data.len() <= body.len());
            }
            Ok(Opened { data: None, .. }) => {}
            Err((dialect, error)) => {
                prop_assert_eq!(error.code(), Code::InvalidArgument);
                let nest = matches!(dialect, Dialect::Nest { .. });
                prop_assert!(nest);
            }
        }
    }

    #[test]
    fn an_envelope_gives_back_data_and_id_byte_for_byte(
        (data, id, text) in (value(), value()).prop_flat_map(|(data, id)| {
            let text = envelope(&data, &id);
            (Just(data), Just(id), text)
        }),
    ) {
        prop_assume!(id.to_string().len() <= nest::MAX_ID);
        for wire in [WireFormat::Auto, WireFormat::Nest] {
            let opened = open(wire, "e", Bytes::from(text.clone()), true).unwrap();
            prop_assert_eq!(opened.data.unwrap(), data.to_string());
            prop_assert_eq!(opened.dialect, Dialect::Nest { id: Some(id.to_string().into()) });
        }
    }

    #[test]
    fn an_envelope_in_its_usual_form_is_read_as_one_in_any_form(
        (subject, body) in usual(), wants_answer in any::<bool>(),
    ) {
        let body = Bytes::from(body);
        if let Some(envelope) = nest::usual::read(&subject, &body) {
            let read = |opened: Result<Opened, (Dialect, RpcError)>| match opened {
                Ok(Opened { dialect, data }) => (dialect, data, None),
                Err((dialect, error)) => (dialect, None, Some(error.to_string())),
            };
            let usual = read(envelope.open(wants_answer));
            for wire in [WireFormat::Auto, WireFormat::Nest] {
                prop_assert_eq!(&usual, &read(open_any(wire, &subject, body.clone(), wants_answer)));
            }
        }
    }

    #[test]
    fn who_never_looks_for_an_envelope_gets_the_body((subject, body) in usual(), wants_answer in any::<bool>()) {
        let body = Bytes::from(body);
        let opened = open(WireFormat::Native, &subject, body.clone(), wants_answer).unwrap();
        prop_assert_eq!((opened.dialect, opened.data), (Dialect::Native, Some(body)));
    }

    #[test]
    fn what_nestjs_writes_is_in_the_usual_form(
        subject in "[a-z.]{1,9}", value in value(), id in proptest::option::of("[0-9a-f]{21}"),
    ) {
        let tail = id.as_ref().map(|id| format!(",\"id\":\"{id}\"")).unwrap_or_default();
        let body = Bytes::from(format!("{{\"pattern\":\"{subject}\",\"data\":{value}{tail}}}"));
        let opened = nest::usual::read(&subject, &body).unwrap().open(false).unwrap();
        prop_assert_eq!(opened.data.unwrap(), value.to_string());
        prop_assert_eq!(opened.dialect, Dialect::Nest { id: id.map(|id| format!("\"{id}\"").into()) });
    }

    #[test]
    fn a_body_without_a_pattern_is_native(value in value()) {
        prop_assume!(value.get("pattern").is_none());
        let body = Bytes::from(value.to_string());
        let opened = open(WireFormat::Auto, "e", body.clone(), true).unwrap();
        prop_assert_eq!((opened.dialect, opened.data), (Dialect::Native, Some(body)));
    }

    #[test]
    fn an_answer_in_the_nest_dialect_has_its_three_members_alone(value in value(), id in value()) {
        let dialect = Dialect::Nest { id: Some(id.to_string().into()) };
        let mut out = Vec::new();
        dialect.begin(&mut out);
        out.extend_from_slice(value.to_string().as_bytes());
        dialect.finish(&ReplyKind::Value, &mut out);
        let answer: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(answer, json!({ "response": value, "isDisposed": true, "id": id }));
    }

    #[test]
    fn every_error_has_headers_that_can_be_sent_and_a_body_that_can_be_read(error in error(), id in value()) {
        let headers = error_headers(&error);
        let text = headers.get(ERROR.clone()).unwrap().as_str();
        prop_assert!(!text.is_empty() && text.len() <= MAX_ERROR_HEADER && !text.contains(char::is_control));
        let status = error.code().status().to_string();
        prop_assert_eq!(headers.get(ERROR_CODE.clone()).unwrap().as_str(), status);
        let mut out = Vec::new();
        Dialect::Native.error(&error, &mut out);
        let body: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(body["message"].as_str(), Some(error.message()));
        Dialect::Nest { id: Some(id.to_string().into()) }.error(&error, &mut out);
        let body: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(body["err"]["message"].as_str(), Some(error.message()));
        prop_assert_eq!(&body["id"], &id);
    }
}
