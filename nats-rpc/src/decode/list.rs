//! Decoding of JSON whose outermost value is an array, which never becomes a struct.

use serde::de::{self, DeserializeOwned, Deserializer, Unexpected, Visitor};
use serde_json::Error;

/// Decodes `json`. An array decodes as a list or a tuple, never as a struct whose fields are given by position.
///
/// # Errors
/// If `json` does not decode as `T`.
pub(super) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    if json.trim_ascii_start().first() != Some(&b'[') {
        return serde_json::from_slice(json);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(List(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// An array to decode.
struct List<D>(D);

macro_rules! as_it_is {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for List<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        Err(de::Error::invalid_type(Unexpected::Seq, &visitor))
    }

    // A wrapper around a struct does not make the array one.

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        // `RawValue` requests the text of the array by a name that serde_json reserves.
        if name.starts_with("$serde_json::") {
            return self.0.deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    // Everything else depends on the array and `T`.

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    as_it_is! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_seq deserialize_map deserialize_identifier
        deserialize_ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Query {
        id: u8,
        user: Option<Value>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wrapped(Query);

    #[derive(Debug, Deserialize, PartialEq)]
    struct Pair(u8, u8);

    #[derive(Debug, Deserialize, PartialEq)]
    struct Ids(Vec<u8>);

    fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
        from_json(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_array_is_no_struct_whatever_stands_around_it() {
        let forged = r#" [7, {"sub": "admin"}]"#;
        assert!(read::<Query>(forged).unwrap_err().contains("sequence"));
        assert!(read::<Wrapped>(forged).is_err());
        assert!(read::<Option<Query>>(forged).is_err());
        assert!(read::<Option<Wrapped>>(forged).is_err());
        assert_eq!(read::<Query>(r#"{"id":7}"#), Ok(Query { id: 7, user: None }));
        assert_eq!(read::<Option<Query>>("null"), Ok(None));
    }

    #[test]
    fn lists_tuples_and_raw_json_are_read_as_ever() {
        assert_eq!(read::<Vec<u8>>("[1,2]"), Ok(vec![1, 2]));
        assert_eq!(read::<Ids>("[1,2]"), Ok(Ids(vec![1, 2])));
        assert_eq!(read::<Option<Vec<u8>>>("[]"), Ok(Some(vec![])));
        assert_eq!(read::<(u8, String)>(r#"[1,"a"]"#), Ok((1, "a".to_owned())));
        assert_eq!(read::<[u8; 2]>("[1,2]"), Ok([1, 2]));
        assert_eq!(read::<Pair>("[1,2]"), Ok(Pair(1, 2)));
        assert_eq!(read::<Vec<Query>>(r#"[{"id":1}]"#).map(|list| list.len()), Ok(1));
        assert_eq!(read::<Value>("[1]"), Ok(serde_json::json!([1])));
        assert_eq!(read::<Box<RawValue>>("[ 1 ]").unwrap().get(), "[ 1 ]");
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        assert!(read::<Value>(&deep).is_err());
    }

    #[test]
    fn what_is_no_such_list_is_refused_as_ever() {
        for json in ["[1", "[1]]", "[1] 2", "[1,]", "[300]"] {
            assert!(read::<Vec<u8>>(json).is_err(), "{json}");
        }
        assert!(read::<u8>("[1]").is_err() && read::<()>("[]").is_err() && read::<String>("[]").is_err());
    }
}
