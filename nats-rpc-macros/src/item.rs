//! The annotated item, and its nats-rpc attributes.
//!
//! The compiler has resolved every `cfg` and `cfg_attr` on the item before it expands the first of them.

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Error, Meta, Path};

/// The nats-rpc attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    MessagePattern,
    EventPattern,
    UseGuards,
    Public,
}

impl Name {
    const ALL: [Self; 4] = [Self::MessagePattern, Self::EventPattern, Self::UseGuards, Self::Public];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MessagePattern => "message_pattern",
            Self::EventPattern => "event_pattern",
            Self::UseGuards => "use_guards",
            Self::Public => "public",
        }
    }

    /// Compares the last segment, so that `#[nats_rpc::public]` is found as well.
    fn of(path: &Path) -> Option<Self> {
        let last = &path.segments.last()?.ident;
        Self::ALL.into_iter().find(|name| last == name.as_str())
    }
}

/// One nats-rpc attribute, as written.
pub(crate) struct Written {
    pub(crate) name: Name,
    pub(crate) args: Args,
    /// `None` for the attribute that the compiler expanded, which is not part of its own input.
    pub(crate) meta: Option<Meta>,
}

/// The tokens after the name of an attribute.
pub(crate) enum Args {
    /// Nothing, or the content of the parentheses. The compiler does not distinguish `#[public]` from `#[public()]`.
    List(TokenStream),
    /// `= …`, which no nats-rpc attribute accepts.
    Value,
}

impl Written {
    /// Creates the attribute that the compiler expanded.
    pub(crate) fn first(name: Name, args: TokenStream) -> Self {
        Self { name, args: Args::List(args), meta: None }
    }

    fn found(name: Name, meta: Meta) -> Self {
        let args = match &meta {
            Meta::Path(_) => Args::List(TokenStream::new()),
            Meta::List(list) => Args::List(list.tokens.clone()),
            Meta::NameValue(_) => Args::Value,
        };
        Self { name, args, meta: Some(meta) }
    }

    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        match &self.meta {
            Some(meta) => Error::new_spanned(meta, message),
            None => Error::new(Span::call_site(), message),
        }
    }
}

/// An item, of which only the attributes are parsed.
pub(crate) struct Item {
    /// The nats-rpc attributes, in written order.
    pub(crate) ours: Vec<Written>,
    /// The other attributes, in written order; they stay on the item.
    pub(crate) foreign: Vec<Attribute>,
    /// The item without its attributes.
    pub(crate) rest: TokenStream,
}

impl Item {
    pub(crate) fn new(first: Written, item: TokenStream) -> Self {
        let split = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse()?));
        // The compiler has parsed the item already; attributes that only it can read stay in `rest`.
        let (attributes, rest) = split.parse2(item.clone()).unwrap_or((Vec::new(), item));
        let mut this = Self { ours: vec![first], foreign: Vec::new(), rest };
        for attribute in attributes {
            if let Some(name) = Name::of(attribute.path()) {
                this.ours.push(Written::found(name, attribute.meta));
            } else {
                this.foreign.push(attribute);
            }
        }
        this
    }

    /// Returns the conditions under which the item exists; added items have the same ones.
    pub(crate) fn cfgs(&self) -> Vec<&Attribute> {
        self.foreign.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }
}
