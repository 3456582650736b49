//! The handler that the attributes and the function describe together.

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::{Path, Result, Signature, Visibility, parse_quote};

use crate::args::{self, Guard, Options};
use crate::errors::Errors;
use crate::item::{Item, Name};
use crate::pattern::Pattern;

/// A handler, as far as its attributes could be parsed.
pub(crate) struct Handler {
    pub(crate) routes: Vec<Route>,
    /// In written order.
    pub(crate) guards: Vec<Guard>,
    pub(crate) public: bool,
    /// The path of `nats_rpc` for the expansion.
    pub(crate) krate: Path,
}

/// One pattern attribute.
pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) pattern: Pattern,
    pub(crate) options: Options,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Message,
    Event,
}

impl Handler {
    pub(crate) fn read(item: &Item, errors: &mut Errors) -> Self {
        let mut this = Self { routes: Vec::new(), guards: Vec::new(), public: false, krate: parse_quote!(::nats_rpc) };
        for written in &item.ours {
            let kind = match written.name {
                Name::MessagePattern => Kind::Message,
                Name::EventPattern => Kind::Event,
                Name::UseGuards => {
                    this.guards.extend(args::guards(written, errors));
                    continue;
                }
                Name::Public => {
                    args::public(written, errors);
                    this.public = true;
                    continue;
                }
            };
            let (pattern, mut options) = args::pattern(written, errors);
            if let Some(krate) = options.krate.take() {
                this.krate = krate;
            }
            this.routes.extend(pattern.map(|pattern| Route { kind, pattern, options }));
        }
        this
    }

    /// Returns `true` if the handler replies.
    pub(crate) fn answers(&self) -> bool {
        self.routes.iter().any(|route| matches!(route.kind, Kind::Message))
    }

    /// Returns `true` if it handles events.
    pub(crate) fn hears(&self) -> bool {
        self.routes.iter().any(|route| matches!(route.kind, Kind::Event))
    }
}

/// A function. Its body is not parsed: it is irrelevant here, and may be incomplete in an editor.
pub(crate) struct Function {
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenStream,
}

impl Function {
    /// Returns `true` if the function is not a declaration in a trait.
    pub(crate) fn has_body(&self) -> bool {
        matches!(self.body.clone().into_iter().next(), Some(TokenTree::Group(_)))
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Self { vis: input.parse()?, sig: input.parse()?, body: input.parse()? })
    }
}
