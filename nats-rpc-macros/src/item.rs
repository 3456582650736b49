//! The item that an attribute stands on, and which of our attributes stand on it.
//!
//! The compiler has resolved every `cfg` and `cfg_attr` on the item before it expands the first of them.

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Error, Meta, Path};

/// Our attributes.
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

    /// By the last segment, so that `#[nats_rpc::public]` is found too.
    fn of(path: &Path) -> Option<Self> {
        let last = &path.segments.last()?.ident;
        Self::ALL.into_iter().find(|name| last == name.as_str())
    }
}

/// One of our attributes, as written.
pub(crate) struct Written {
    pub(crate) name: Name,
    pub(crate) args: Args,
    /// `None` for the attribute that the compiler expanded, which does not see itself.
    pub(crate) meta: Option<Meta>,
}

/// What follows the name of an attribute.
pub(crate) enum Args {
    /// Nothing, or what the parentheses hold. The compiler does not tell `#[public]` from `#[public()]`.
    List(TokenStream),
    /// `= …`, which none of ours takes.
    Value,
}

impl Written {
    /// The attribute that the compiler expanded.
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

/// An item, taken apart no further than its attributes.
pub(crate) struct Item {
    /// Ours, in written order.
    pub(crate) ours: Vec<Written>,
    /// The others, in written order; they stay on the item.
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

    /// The conditions under which the item exists; what is added to it has the same.
    pub(crate) fn cfgs(&self) -> Vec<&Attribute> {
        self.foreign.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }
}
