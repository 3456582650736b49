use std::fmt;
use std::str::FromStr;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::{BindContext, Extract};
use crate::error::RpcError;
use crate::message::Request;
use crate::subject::Parameter;

/// The named tokens of the subject: `{id}` in `users.{id}.get`.
///
/// One parameter is taken as itself, several as a tuple in the order of the pattern, or as a struct
/// with fields of their names. Answers 400 when a token is not what `T` wants; a handler whose pattern
/// names no parameter stops the start.
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

/// Where in the subject the named tokens stand.
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
        parsed.map(Self).map_err(|ParamError(why)| RpcError::invalid_argument(format!("the subject {why}")))
    }
}

/// The named tokens of one subject, as a serde data format.
struct Tokens<'a>(&'a [(&'a str, &'a str)]);

impl<'a> Tokens<'a> {
    fn only(&self) -> Result<Token<'a>, ParamError> {
        match self.0 {
            [(name, text)] => Ok(Token { name, text }),
            _ => Err(ParamError(format!("has {} parameters: take a tuple or a struct", self.0.len()))),
        }
    }
}

/// One named token.
#[derive(Clone, Copy)]
struct Token<'a> {
    name: &'a str,
    text: &'a str,
}

impl Token<'_> {
    fn parse<T: FromStr>(self, kind: &str) -> Result<T, ParamError> {
        self.text.parse().map_err(|_| ParamError(format!("has {:?} where `{}` is {kind}", self.text, self.name)))
    }
}

#[derive(Debug)]
struct ParamError(String);

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParamError {}

impl de::Error for ParamError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(format!("does not fit: {message}"))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $kind:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            visitor.$visit(self.parse::<$type>($kind)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Token<'de> {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_enum(self.text.into_deserializer())
    }

    numbers! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i8 i8, "a number";
        deserialize_i16 visit_i16 i16, "a number";
        deserialize_i32 visit_i32 i32, "a number";
        deserialize_i64 visit_i64 i64, "a number";
        deserialize_i128 visit_i128 i128, "a number";
        deserialize_u8 visit_u8 u8, "a number";
        deserialize_u16 visit_u16 u16, "a number";
        deserialize_u32 visit_u32 u32, "a number";
        deserialize_u64 visit_u64 u64, "a number";
        deserialize_u128 visit_u128 u128, "a number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ParamError> for Token<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            self.only()?.$method(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Tokens<'de> {
    type Error = ParamError;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.only()?.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let tokens = self.0.iter().map(|(name, text)| Token { name, text });
        visitor.visit_seq(SeqDeserializer::new(tokens))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ParamError> {
        if len != self.0.len() {
            return Err(ParamError(format!("has {} parameters and the handler takes {len}", self.0.len())));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let tokens = self.0.iter().map(|&(name, text)| (name, Token { name, text }));
        visitor.visit_map(MapDeserializer::new(tokens))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
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
    fn a_token_that_does_not_fit_is_named() {
        assert_eq!(parse::<u8>(&[("id", "300")]).unwrap_err(), "has \"300\" where `id` is a number");
        assert!(parse::<String>(&[("a", "x"), ("b", "y")]).unwrap_err().contains("tuple"));
        assert!(parse::<(u8, u8)>(&[("a", "1")]).unwrap_err().contains("takes 2"));
    }
}
