//! NestJS's object patterns, and the subject that NestJS derives from them.

use std::cmp::Ordering;

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitBool, LitFloat, LitInt, LitStr, Result, Token, braced, token};

/// The depth to which NestJS reads a pattern; the pattern itself has depth 0.
const MAX_DEPTH: usize = 5;
const MAX_KEYS: usize = 20;
/// The largest whole number that JavaScript does not round.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// `{"cmd": "sum", "n": 1, "nested": {"k": "v"}}`.
pub(crate) struct Object {
    brace: token::Brace,
    entries: Punctuated<Entry, Token![,]>,
}

struct Entry {
    key: LitStr,
    value: Value,
}

enum Value {
    Text(LitStr),
    /// A value as JavaScript prints it: a whole number, `true`, `false`, `null`.
    Bare(String),
    Object(Object),
}

impl Object {
    /// Returns the subject, as NestJS's `transformPatternToRoute` prints it.
    pub(crate) fn subject(&self) -> Result<String> {
        self.print(0)
    }

    fn print(&self, depth: usize) -> Result<String> {
        let refuse = |message: String| Err(Error::new(self.brace.span.join(), message));
        if depth > MAX_DEPTH {
            return refuse(format!("NestJS looks at most {MAX_DEPTH} levels into a pattern: flatten it"));
        }
        if self.entries.len() > MAX_KEYS {
            return refuse(format!("NestJS takes at most {MAX_KEYS} keys in a pattern: remove some"));
        }
        if self.entries.is_empty() {
            return refuse("an object pattern needs a key, such as `{\"cmd\": \"sum\"}`".to_owned());
        }
        let mut entries = self.entries.iter().map(|entry| Ok((entry.key()?, entry))).collect::<Result<Vec<_>>>()?;
        entries.sort_by(|(a, _), (b, _)| locale_compare(a, b));
        if let Some([_, (key, entry)]) = entries.array_windows().find(|[(a, _), (b, _)]| a == b) {
            return Err(Error::new(entry.key.span(), format!("the key \"{key}\" is given twice: remove one")));
        }
        let printed = entries.into_iter().map(|(key, entry)| Ok(format!("\"{key}\":{}", entry.value.print(depth)?)));
        Ok(format!("{{{}}}", printed.collect::<Result<Vec<_>>>()?.join(",")))
    }
}

impl Parse for Object {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let content;
        Ok(Self { brace: braced!(content in input), entries: content.parse_terminated(Entry::parse, Token![,])? })
    }
}

impl Entry {
    fn key(&self) -> Result<String> {
        let key = self.key.value();
        // NestJS sorts by the locale of its process, and locales agree only on ASCII.
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            let message = "a key is of visible ASCII characters without quotes and backslashes, so that NestJS \
                           sorts and prints it the same everywhere";
            return Err(Error::new(self.key.span(), message));
        }
        Ok(key)
    }
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(LitStr) {
            let key = input.parse::<Ident>().map_err(|error| Error::new(error.span(), "a key is a string literal"))?;
            return Err(Error::new(key.span(), format!("a key is a string literal: write \"{key}\"")));
        }
        let key: LitStr = input.parse()?;
        if !input.peek(Token![:]) {
            return Err(Error::new(key.span(), "this key needs a value: write `\"key\": value`"));
        }
        input.parse::<Token![:]>()?;
        Ok(Self { key, value: input.parse()? })
    }
}

impl Value {
    fn print(&self, depth: usize) -> Result<String> {
        match self {
            Self::Text(text) => Ok(format!("\"{}\"", text.value().replace('\\', "\\\\").replace('"', "\\\""))),
            Self::Bare(word) => Ok(word.clone()),
            Self::Object(object) => object.print(depth + 1),
        }
    }
}

impl Parse for Value {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ahead = input.lookahead1();
        if ahead.peek(LitStr) {
            return input.parse().map(Self::Text);
        }
        if ahead.peek(token::Brace) {
            return input.parse().map(Self::Object);
        }
        if ahead.peek(LitBool) {
            return Ok(Self::Bare(input.parse::<LitBool>()?.value.to_string()));
        }
        if input.peek(Ident) && input.fork().parse::<Ident>()? == "null" {
            return Ok(Self::Bare(input.parse::<Ident>()?.to_string()));
        }
        let minus: Option<Token![-]> = input.parse()?;
        if input.peek(LitInt) {
            let number = number(&input.parse()?)?;
            let sign = if minus.is_some() && number != "0" { "-" } else { "" };
            return Ok(Self::Bare(format!("{sign}{number}")));
        }
        if input.peek(LitFloat) {
            return Err(input.error("JavaScript and Rust may print a fraction differently: write a string"));
        }
        Err(input.error("a value is a string, a whole number, true, false, null or an object"))
    }
}

/// Returns a whole number as JavaScript prints it.
pub(crate) fn number(literal: &LitInt) -> Result<String> {
    let plain = literal.suffix().is_empty();
    let number = literal.base10_parse::<u64>().ok().filter(|number| plain && *number <= MAX_NUMBER);
    let message = || format!("a number in a pattern is a whole number from 0 to {MAX_NUMBER}, without a suffix");
    number.map(|number| number.to_string()).ok_or_else(|| Error::new(literal.span(), message()))
}

/// Compares like JavaScript's `localeCompare` for visible ASCII: punctuation, digits, letters without regard to case,
/// then lower case first.
fn locale_compare(a: &str, b: &str) -> Ordering {
    const PUNCTUATION: &[u8] = b"_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
    let primary = |byte: u8| match PUNCTUATION.iter().position(|known| *known == byte) {
        Some(place) => (false, place),
        None => (true, usize::from(byte.to_ascii_lowercase())),
    };
    let by_letter = a.bytes().map(primary).cmp(b.bytes().map(primary));
    // In ASCII, lower case is greater, so the operands are swapped.
    by_letter.then_with(|| b.cmp(a))
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn subject(tokens: proc_macro2::TokenStream) -> Result<String> {
        syn::parse2::<Object>(tokens)?.subject()
    }

    #[test]
    fn an_object_prints_as_nestjs_prints_it() {
        let printed = |tokens| subject(tokens).unwrap();
        assert_eq!(printed(quote!({"cmd": "sum"})), r#"{"cmd":"sum"}"#);
        assert_eq!(printed(quote!({"z": 1, "nested": {"k": "v"}, "a": "x",})), r#"{"a":"x","nested":{"k":"v"},"z":1}"#);
        assert_eq!(
            printed(quote!({"t": true, "f": false, "n": null, "m": -3, "h": 0x2a, "o": -0})),
            r#"{"f":false,"h":42,"m":-3,"n":null,"o":0,"t":true}"#
        );
        assert_eq!(printed(quote!({"q": "a\"b\\c"})), r#"{"q":"a\"b\\c"}"#);
    }

    #[test]
    fn keys_are_in_the_order_of_locale_compare() {
        // Node.js 20 printed both orders: `[…].sort((a, b) => a.localeCompare(b))`.
        let mut keys = ["ABa", "a-b", "Ab", "ab1", "AB", "abA", "a1", "aB", "a_b", "aba", "ab"];
        keys.sort_by(|a, b| locale_compare(a, b));
        assert_eq!(keys, ["a_b", "a-b", "a1", "ab", "aB", "Ab", "AB", "ab1", "aba", "abA", "ABa"]);
        let mut letters: Vec<_> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
        letters.sort_by(|a, b| locale_compare(a, b));
        let expected = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789\
                        aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ";
        assert_eq!(letters.concat(), expected);
    }

    #[test]
    fn what_nestjs_would_print_differently_is_refused() {
        let refused = |tokens, why: &str| {
            let error = subject(tokens).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(quote!({}), "needs a key");
        refused(quote!({"ü": 1}), "visible ASCII");
        refused(quote!({"a b": 1}), "visible ASCII");
        refused(quote!({"": 1}), "visible ASCII");
        refused(quote!({cmd: "sum"}), "write \"cmd\"");
        refused(quote!({ "a" }), "needs a value");
        refused(quote!({"a": 1, "a": 2}), "given twice");
        refused(quote!({"a": 1.5}), "fraction");
        refused(quote!({"a": 1u8}), "without a suffix");
        refused(quote!({"a": 9007199254740992}), "to 9007199254740991");
        refused(quote!({"a": [1]}), "a value is");
        refused(quote!({"a": undefined}), "a value is");
    }

    #[test]
    fn depth_and_width_end_where_nestjs_ends() {
        let nested = |depth| (0..depth).fold(quote!(1), |inner, _| quote!({ "a": #inner }));
        assert!(subject(nested(6)).is_ok());
        assert!(subject(nested(7)).unwrap_err().to_string().contains("5 levels"));
        let wide = |width: usize| {
            let keys = (0..width).map(|key| format!("k{key}"));
            quote!({ #(#keys: 1),* })
        };
        assert!(subject(wide(20)).is_ok());
        assert!(subject(wide(21)).unwrap_err().to_string().contains("20 keys"));
    }
}
