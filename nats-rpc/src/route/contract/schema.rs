//! Schemas of types that implement `JsonSchema`.

use futures::Stream;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Describe, Shape};
use crate::reply::Streaming;

impl<T: Described> Describe for &Shape<T> {
    fn taken(&self) -> Option<String> {
        Some(hash(&T::taken()))
    }

    fn answered(&self) -> Option<String> {
        Some(hash(&T::answered()))
    }
}

/// A handler replies with the value that it returns on success.
impl<T: Described, E> Describe for &&Shape<Result<T, E>> {
    fn answered(&self) -> Option<String> {
        Some(hash(&T::answered()))
    }
}

/// A type with a schema, or a stream of such a type.
trait Described {
    /// Returns the schema for decoding.
    fn taken() -> Value;

    /// Returns the schema for encoding.
    fn answered() -> Value;
}

impl<T: JsonSchema> Described for T {
    fn taken() -> Value {
        schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
    }

    fn answered() -> Value {
        schema::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

impl<S, T, E> Described for Streaming<S>
where
    S: Stream<Item = Result<T, E>>,
    T: JsonSchema,
{
    fn taken() -> Value {
        json!({ "stream": T::taken() })
    }

    fn answered() -> Value {
        json!({ "stream": T::answered() })
    }
}

/// Returns the schema of `T`, without annotations for human readers and without the names of types.
fn schema<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let mut settings = settings;
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(|schema: &mut Schema| {
        for annotation in ANNOTATIONS {
            schema.remove(annotation);
        }
    })
    .transform(&mut schema);
    schema.to_value()
}

/// Keywords that do not affect which JSON is valid.
const ANNOTATIONS: [&str; 7] = ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];

/// Returns the first 64 bits of the schema's SHA-256, in hexadecimal digits.
fn hash(schema: &Value) -> String {
    let mut text = String::new();
    write(schema, &mut text);
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Lists in a schema whose order has no meaning.
const UNORDERED: [&str; 6] = ["required", "enum", "type", "anyOf", "oneOf", "allOf"];

/// Writes equal schemas identically, whatever the order of a type's fields and of a map's keys.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                list(value, UNORDERED.contains(&name.as_str()), text);
            }
            text.push('}');
        }
        value => list(value, false, text),
    }
}

fn list(value: &Value, unordered: bool, text: &mut String) {
    match value {
        Value::Array(items) => {
            let written = |item| {
                let mut text = String::new();
                write(item, &mut text);
                text
            };
            let mut items: Vec<_> = items.iter().map(written).collect();
            if unordered {
                items.sort();
            }
            text.push('[');
            text.push_str(&items.join(","));
            text.push(']');
        }
        Value::Object(_) => write(value, text),
        value => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::extract::{Payload, State};
    use crate::route::Contract;

    /// Returns the hash of a payload.
    fn taken<T: JsonSchema>() -> String {
        hash(&<T as Described>::taken())
    }

    #[expect(dead_code, reason = "only the shapes are of interest")]
    mod first {
        use super::*;

        /// Adds.
        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Sum {
            /// The one.
            pub(super) a: i64,
            pub(super) b: Inner,
        }

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Inner(Vec<String>);
    }

    #[expect(dead_code, reason = "only the shapes are of interest")]
    mod other {
        use super::*;

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Renamed {
            pub(super) b: Inner2,
            /// Another comment.
            pub(super) a: i64,
        }

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Inner2(Vec<String>);

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Optional {
            pub(super) a: i64,
            #[serde(default)]
            pub(super) b: Vec<String>,
        }

        #[derive(JsonSchema, Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        pub(super) struct Spelled {
            pub(super) a: i64,
            pub(super) b: Vec<String>,
        }

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct Deeper {
            pub(super) a: i64,
            pub(super) b: Vec<u32>,
        }

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct NamedAsAnAnnotation {
            pub(super) title: i64,
        }

        #[derive(JsonSchema, Deserialize)]
        pub(super) struct NamedAsAnother {
            pub(super) description: i64,
        }
    }

    #[test]
    fn a_hash_stays_when_comments_names_of_types_and_the_order_of_fields_change() {
        assert_eq!(taken::<first::Sum>(), taken::<other::Renamed>());
        assert_eq!(taken::<first::Sum>().len(), 16);
    }

    #[test]
    fn a_hash_changes_with_each_field_its_name_its_type_and_whether_it_may_be_absent() {
        let hashes = [
            taken::<first::Sum>(),
            taken::<other::Optional>(),
            taken::<other::Spelled>(),
            taken::<other::Deeper>(),
            taken::<other::NamedAsAnAnnotation>(),
            taken::<other::NamedAsAnother>(),
            taken::<(u8, String)>(),
            taken::<(String, u8)>(),
            taken::<Option<u8>>(),
            taken::<u8>(),
        ];
        let different: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len(), "{hashes:?}");
    }

    #[test]
    fn a_type_that_only_writes_a_field_answers_another_shape_than_it_takes() {
        #[derive(JsonSchema, Serialize, Deserialize)]
        struct OneWay {
            #[serde(skip_deserializing)]
            id: u32,
        }
        assert_ne!(hash(&OneWay::taken()), hash(&OneWay::answered()));
    }

    /// Creates a shape in the same way as the macros.
    macro_rules! shape {
        ($type:ty) => {
            (&&&Shape::<$type>::new())
        };
    }

    #[test]
    fn what_has_a_schema_is_described_and_anything_else_is_not() {
        struct Plain;
        assert_eq!(shape!(Plain).taken(), None);
        assert_eq!(shape!(Payload<Plain>).taken(), None);
        assert_eq!(shape!(State<u8>).taken(), None, "state is no part of a message");
        assert_eq!(shape!(Result<Plain, Plain>).answered(), None);
        assert_eq!(shape!(Payload<u8>).taken(), Some(taken::<u8>()));
        assert_eq!(shape!(Option<Payload<u8>>).taken(), Some(taken::<Option<u8>>()));
        assert_eq!(shape!(u8).answered(), shape!(Result<u8, Plain>).answered());
        assert!(shape!(()).answered().is_some());
    }

    #[test]
    fn a_stream_is_described_by_its_items_and_is_not_one_of_them() {
        type Items<T> = Streaming<futures::stream::Empty<Result<T, crate::RpcError>>>;
        let stream = shape!(Items<u8>).answered();
        assert!(stream.is_some());
        assert_eq!(stream, shape!(Result<Items<u8>, crate::RpcError>).answered());
        assert_ne!(stream, shape!(u8).answered());
        assert_ne!(stream, shape!(Vec<u8>).answered());
        assert_ne!(stream, shape!(Items<u16>).answered());
        assert_eq!(shape!(Items<u8>).taken(), stream, "these items are read as they are written");
        assert_ne!(shape!(Items<u8>).taken(), shape!(Items<u16>).taken());
        struct Plain;
        assert_eq!(shape!(Items<Plain>).answered(), None);
    }

    #[test]
    #[allow(clippy::needless_borrow)] // As the macros write it.
    fn the_return_type_of_a_function_needs_no_name() {
        async fn count(_: u8, _: u16) -> Streaming<impl Stream<Item = Result<u8, crate::RpcError>>> {
            Streaming::new(futures::stream::empty())
        }
        let contract = Contract::new()
            .taken(shape!(Payload<u8>).taken())
            .answered((&&&Shape::returned_by(|(a, b)| count(a, b))).answered());
        assert!(contract.payload.is_some() && contract.answer.is_some());
    }
}
