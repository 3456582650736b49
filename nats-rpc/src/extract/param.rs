use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{BindContext, Extract};
use crate::decode::{Mismatch, Text};
use crate::error::RpcError;
use crate::message::Request;
use crate::subject::Parameter;

/// The named tokens of the subject: `{id}` in `users.{id}.get`.
///
/// One parameter is extracted as itself; several as a tuple in the order of the pattern, or as a struct with fields of
/// their names. The service replies 400 if a token does not decode as `T`. A service does not start if the pattern of
/// such a handler names no parameter.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("users.{id}.get")]
/// async fn get_user(Param(id): Param<u64>) -> u64 {
///     id
/// }
///
/// #[derive(Deserialize)]
/// struct Post { user: String, post: u32 }
///
/// #[message_pattern("users.{user}.posts.{post}")]
/// async fn get_post(Param(Post { user, post }): Param<Post>) -> String {
///     format!("{user}/{post}")
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Param<T>(pub T);

/// The positions of the named tokens in the subject.
#[doc(hidden)]
pub struct Places(Vec<Parameter>);

impl<T: DeserializeOwned + Send> Extract for Param<T> {
    type Bound = Places;

    fn bind(cx: &BindContext<'_>) -> Result<Places, String> {
        match cx.pattern.params() {
            [] => Err(format!("the pattern \"{}\" names no parameter: write a token such as `{{id}}`", cx.pattern)),
            params => Ok(Places(params.to_vec())),
        }
    }

    async fn extract(Places(params): &Places, request: &mut Request) -> Result<Self, RpcError> {
        let tokens: Option<Vec<_>> =
            params.iter().map(|param| Some((param.name.as_str(), request.param(param)?))).collect();
        let tokens =
            tokens.ok_or_else(|| RpcError::invalid_argument("the subject has fewer tokens than the pattern"))?;
        let parsed = T::deserialize(Tokens(&tokens));
        parsed.map(Self).map_err(|error| RpcError::invalid_argument(format!("the subject cannot be used: {error}")))
    }
}

/// The named tokens of one subject, as a serde data format. Its errors repeat no token.
struct Tokens<'a>(&'a [(&'a str, &'a str)]);

impl<'a> Tokens<'a> {
    fn only<T>(&self, read: impl FnOnce(Text<'a>) -> Result<T, Mismatch>) -> Result<T, Mismatch> {
        match self.0 {
            [(name, text)] => read(Text(text)).map_err(|error| named(name, &error)),
            _ => Err(Mismatch::new(format!("it has {} parameters: take a tuple or a struct", self.0.len()))),
        }
    }
}

/// Returns the error of the parameter `name`.
fn named(name: &str, error: &Mismatch) -> Mismatch {
    Mismatch::new(format!("`{name}`: {}", error.why()))
}

/// Access to the tokens, one after the other.
struct Access<'a> {
    tokens: std::slice::Iter<'a, (&'a str, &'a str)>,
    value: Option<&'a (&'a str, &'a str)>,
}

impl<'a> Access<'a> {
    fn new(Tokens(tokens): &Tokens<'a>) -> Self {
        Self { tokens: tokens.iter(), value: None }
    }
}

impl<'de> SeqAccess<'de> for Access<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some((name, text)) = self.tokens.next() else { return Ok(None) };
        seed.deserialize(Text(text)).map(Some).map_err(|error| named(name, &error))
    }
}

impl<'de> MapAccess<'de> for Access<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        self.value = self.tokens.next();
        self.value.map(|(name, _)| seed.deserialize(Text(name))).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let Some((name, text)) = self.value.take() else { return Err(Mismatch::new("a parameter has no value")) };
        seed.deserialize(Text(text)).map_err(|error| named(name, &error))
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.only(|text| text.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Tokens<'de> {
    type Error = Mismatch;

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        self.only(|text| text.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.only(|text| text.deserialize_enum(name, variants, visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_seq(Access::new(&self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Mismatch> {
        if len != self.0.len() {
            return Err(Mismatch::new(format!("it has {} parameters and the handler takes {len}", self.0.len())));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_map(Access::new(&self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_map(visitor)
    }

    scalars! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_str deserialize_string deserialize_option
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct identifier ignored_any }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn parse<T: DeserializeOwned>(tokens: &[(&str, &str)]) -> Result<T, String> {
        T::deserialize(Tokens(tokens)).map_err(|error| error.to_string())
    }

    #[test]
    fn one_parameter_is_itself_and_several_are_a_tuple_or_a_struct() {
        #[derive(Deserialize, PartialEq, Debug)]
        struct Both {
            post: u32,
            user: String,
        }
        #[derive(Deserialize, PartialEq, Debug)]
        struct Id(u64);
        #[derive(Deserialize, PartialEq, Debug)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Short,
        }
        assert_eq!(parse::<String>(&[("id", "a")]).unwrap(), "a");
        assert_eq!(parse::<Id>(&[("id", "7")]).unwrap(), Id(7));
        assert_eq!(parse::<Kind>(&[("kind", "short")]).unwrap(), Kind::Short);
        assert_eq!(parse::<(String, i8)>(&[("a", "x"), ("b", "-1")]).unwrap(), ("x".to_owned(), -1));
        let both = Both { post: 3, user: "u".to_owned() };
        assert_eq!(parse::<Both>(&[("user", "u"), ("post", "3")]).unwrap(), both);
    }

    #[test]
    fn a_token_that_does_not_fit_is_named_and_not_repeated() {
        #[derive(Deserialize, Debug)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Short,
        }
        for (error, name) in [
            (parse::<u8>(&[("id", "hunter2")]).unwrap_err(), "`id`: must be a whole number from 0 to 255"),
            (parse::<(String, bool)>(&[("a", "x"), ("b", "hunter2")]).unwrap_err(), "`b`: must be true or false"),
            (parse::<Kind>(&[("kind", "hunter2")]).unwrap_err(), "`kind`: unknown variant, expected `short`"),
        ] {
            assert_eq!(error, name);
        }
        assert!(parse::<String>(&[("a", "x"), ("b", "y")]).unwrap_err().contains("tuple"));
        assert!(parse::<(u8, u8)>(&[("a", "1")]).unwrap_err().contains("takes 2"));
    }
}
