//! The derive `IntoRpcError`: a code for each variant of an error.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Generics, Ident, LitStr, Path, Result, Token, Type, parse_quote,
};

use crate::args::krate_path;
use crate::errors::Errors;
use crate::suggest::closest;

/// The names in the attribute, and those of `nats_rpc::Code`.
const CODES: [(&str, &str); 10] = [
    ("invalid_argument", "InvalidArgument"),
    ("unauthenticated", "Unauthenticated"),
    ("permission_denied", "PermissionDenied"),
    ("not_found", "NotFound"),
    ("conflict", "Conflict"),
    ("payload_too_large", "PayloadTooLarge"),
    ("resource_exhausted", "ResourceExhausted"),
    ("internal", "Internal"),
    ("unavailable", "Unavailable"),
    ("deadline_exceeded", "DeadlineExceeded"),
];

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::default();
    let Attrs { answer, krate } = Attrs::read(&input.attrs, &mut errors);
    // A type with a malformed attribute has one mistake, not two.
    let cases = if errors.is_empty() { cases(&input, answer, &mut errors) } else { Vec::new() };
    let krate = krate.unwrap_or_else(|| parse_quote!(::nats_rpc));
    if errors.is_empty() { implement(&input, &krate, &cases) } else { fall_back(&input, &krate, &errors) }
}

/// The reply of one value of the type.
struct Case<'a> {
    /// `Self` or `Self::Variant`.
    path: TokenStream,
    answer: Answer<'a>,
}

enum Answer<'a> {
    Code {
        code: Ident,
        message: Option<LitStr>,
    },
    /// The reply is that of the only field.
    Transparent {
        field: TokenStream,
        ty: &'a Type,
    },
}

fn cases<'a>(input: &'a DeriveInput, on_type: Option<Said>, errors: &mut Errors) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    match &input.data {
        Data::Struct(data) => {
            let answer = answer(&input.ident, &data.fields, on_type, errors);
            cases.extend(answer.map(|answer| Case { path: quote!(Self), answer }));
        }
        Data::Enum(data) => {
            if let Some(said) = on_type {
                errors.push(Error::new(
                    said.span(),
                    "each variant of an enum has its own code: move this to the variants",
                ));
                return cases;
            }
            for variant in &data.variants {
                let mut mistakes = Errors::default();
                let name = &variant.ident;
                let Attrs { answer: said, krate } = Attrs::read(&variant.attrs, &mut mistakes);
                if let Some(krate) = krate {
                    mistakes.push(Error::new_spanned(krate, "`crate` goes on the enum: move it there"));
                }
                // A variant with a malformed attribute has one mistake, not two.
                if mistakes.is_empty() {
                    let answer = answer(name, &variant.fields, said, errors);
                    cases.extend(answer.map(|answer| Case { path: quote!(Self::#name), answer }));
                }
                errors.append(mistakes);
            }
        }
        Data::Union(data) => errors.push(Error::new(data.union_token.span, "an error is an enum or a struct")),
    }
    cases
}

fn answer<'a>(name: &Ident, fields: &'a Fields, said: Option<Said>, errors: &mut Errors) -> Option<Answer<'a>> {
    let mut on_fields = fields.iter().flat_map(|field| &field.attrs);
    if let Some(attribute) = on_fields.find(|attribute| attribute.path().is_ident("rpc")) {
        errors.push(Error::new_spanned(&attribute.meta, format!("the code belongs to `{name}`: move this above it")));
        return None;
    }
    match said {
        None => {
            let message = format!("`{name}` has no code: add `#[rpc(not_found)]` or another of {}", codes());
            errors.push(Error::new(name.span(), message));
            None
        }
        Some(Said::Code { code, message, .. }) => Some(Answer::Code { code, message }),
        Some(Said::Transparent(span)) => {
            let mut fields = fields.members().zip(fields);
            match (fields.next(), fields.next()) {
                (Some((member, field)), None) => {
                    Some(Answer::Transparent { field: member.to_token_stream(), ty: &field.ty })
                }
                _ => {
                    let message =
                        format!("`transparent` answers for the only field, and `{name}` has not one: name a code");
                    errors.push(Error::new(span, message));
                    None
                }
            }
        }
    }
}

/// The content of `#[rpc(…)]` on a type or a variant.
#[derive(Default)]
struct Attrs {
    answer: Option<Said>,
    krate: Option<Path>,
}

enum Said {
    Code { code: Ident, message: Option<LitStr>, span: Span },
    Transparent(Span),
}

impl Said {
    fn span(&self) -> Span {
        match self {
            Self::Code { span, .. } | Self::Transparent(span) => *span,
        }
    }
}

impl Attrs {
    fn read(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut this = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("rpc")) {
            errors.take(attribute.parse_args_with(|input: ParseStream<'_>| this.parse(input)));
        }
        this
    }

    fn parse(&mut self, input: ParseStream<'_>) -> Result<()> {
        if input.is_empty() {
            return Err(input.error(format!("this names no code: the codes are {}", codes())));
        }
        while !input.is_empty() {
            let word = input.call(Ident::parse_any)?;
            match word.to_string().as_str() {
                "crate" => {
                    equals(&word, "\"path::to::nats_rpc\"", input)?;
                    self.krate = Some(krate_path(input)?);
                }
                "message" => self.message(&word, input)?,
                _ => self.say(&word)?,
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// Parses a code, or `transparent`.
    fn say(&mut self, word: &Ident) -> Result<()> {
        if self.answer.is_some() {
            return Err(Error::new(word.span(), "one code is enough: remove the others"));
        }
        if word == "transparent" {
            self.answer = Some(Said::Transparent(word.span()));
            return Ok(());
        }
        let Some((_, code)) = CODES.iter().find(|(name, _)| word == name) else {
            let names = CODES.map(|(name, _)| name);
            let guess = closest(&word.to_string(), &names).map(|name| format!(", did you mean `{name}`?"));
            let guess = guess.unwrap_or_else(|| format!(": the codes are {}", codes()));
            return Err(Error::new(word.span(), format!("unknown code `{word}`{guess}")));
        };
        let code = Ident::new(code, word.span());
        self.answer = Some(Said::Code { code, message: None, span: word.span() });
        Ok(())
    }

    fn message(&mut self, word: &Ident, input: ParseStream<'_>) -> Result<()> {
        equals(word, "\"what the caller reads\"", input)?;
        let text: LitStr =
            input.parse().map_err(|error| Error::new(error.span(), "the message is a string literal"))?;
        if text.value().contains(['{', '}']) {
            let why =
                "the message is taken as it is, without `{…}` filled in: leave it out to answer the error's `Display`";
            return Err(Error::new(text.span(), why));
        }
        match &mut self.answer {
            Some(Said::Code { message: message @ None, .. }) => {
                *message = Some(text);
                Ok(())
            }
            Some(Said::Code { .. }) => Err(Error::new(word.span(), "one message is enough: remove the others")),
            Some(Said::Transparent(_)) => {
                Err(Error::new(word.span(), "`transparent` answers with the field's own message: name a code instead"))
            }
            None => {
                Err(Error::new(word.span(), "the message stands behind a code: `#[rpc(conflict, message = \"…\")]`"))
            }
        }
    }
}

fn equals(word: &Ident, example: &str, input: ParseStream<'_>) -> Result<()> {
    let missing = |_| Error::new(word.span(), format!("`{word}` needs a value: `{word} = {example}`"));
    input.parse::<Token![=]>().map(drop).map_err(missing)
}

fn codes() -> String {
    format!("`{}`", CODES.map(|(name, _)| name).join("`, `"))
}

fn implement(input: &DeriveInput, krate: &Path, cases: &[Case<'_>]) -> TokenStream {
    let arms = cases.iter().map(Case::arm);
    let bounds = bounds(input, cases);
    impls(input, krate, &bounds, &quote!(match self { #(#arms)* }), &TokenStream::new())
}

/// Generates the errors, and implementations that prevent further errors in the rest of the program.
fn fall_back(input: &DeriveInput, krate: &Path, errors: &Errors) -> TokenStream {
    let errors = errors.to_compile_errors();
    impls(input, krate, &[], &quote!(loop {}), &quote!(#(#errors)*))
}

fn impls(
    input: &DeriveInput,
    krate: &Path,
    bounds: &[TokenStream],
    body: &TokenStream,
    errors: &TokenStream,
) -> TokenStream {
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let predicates = where_clause.into_iter().flat_map(|clause| &clause.predicates);
    let predicates: Vec<_> =
        predicates.map(|predicate| predicate.to_token_stream()).chain(bounds.iter().cloned()).collect();
    let clause = (!predicates.is_empty()).then(|| quote!(where #(#predicates),*));
    quote! {
        #errors
        const _: () = {
            use #krate::__private as __rpc;
            #[automatically_derived]
            #[allow(unused_qualifications)]
            impl #impl_generics __rpc::IntoRpcError for #name #type_generics #clause {
                fn into_rpc_error(self) -> __rpc::RpcError {
                    #body
                }
            }
            #[automatically_derived]
            #[allow(unused_qualifications)]
            impl #impl_generics ::core::convert::From<#name #type_generics> for __rpc::RpcError #clause {
                fn from(__error: #name #type_generics) -> Self {
                    __rpc::IntoRpcError::into_rpc_error(__error)
                }
            }
        };
    }
}

/// Returns the bounds of the type in addition to its own `where` clause.
fn bounds(input: &DeriveInput, cases: &[Case<'_>]) -> Vec<TokenStream> {
    let mut bounds = Vec::new();
    if cases.iter().any(|case| matches!(case.answer, Answer::Code { .. })) {
        let name = &input.ident;
        let (_, type_generics, _) = input.generics.split_for_impl();
        // The span is the type's name, so that a type which is not an error is reported there, once.
        let this = quote_spanned!(name.span()=> #name #type_generics);
        let error = quote_spanned!(name.span()=> ::core::error::Error + __rpc::Send + __rpc::Sync + 'static);
        bounds.push(quote!(#this: #error));
    }
    for case in cases {
        if let Answer::Transparent { ty, .. } = case.answer
            && mentions_param(ty, &input.generics)
        {
            bounds.push(quote!(#ty: __rpc::IntoRpcError));
        }
    }
    bounds
}

fn mentions_param(ty: &Type, generics: &Generics) -> bool {
    fn any(tokens: TokenStream, is_param: &dyn Fn(&Ident) -> bool) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => is_param(&ident),
            TokenTree::Group(group) => any(group.stream(), is_param),
            _ => false,
        })
    }
    any(ty.to_token_stream(), &|ident| generics.type_params().any(|param| param.ident == *ident))
}

impl Case<'_> {
    fn arm(&self) -> TokenStream {
        let path = &self.path;
        match &self.answer {
            Answer::Transparent { field, ty } => {
                let convert = quote_spanned!(ty.span()=> <#ty as __rpc::IntoRpcError>::into_rpc_error);
                let inner = format_ident!("__inner", span = Span::mixed_site());
                quote!(#path { #field: #inner } => #convert(#inner),)
            }
            Answer::Code { code, message: None } if code == "Internal" => {
                quote!(#path { .. } => __rpc::RpcError::internal(self),)
            }
            Answer::Code { code, message } => {
                let message = match message {
                    Some(message) => message.to_token_stream(),
                    None => quote!(__rpc::ToString::to_string(&self)),
                };
                quote!(#path { .. } => __rpc::RpcError::new(__rpc::Code::#code, #message).with_source(self),)
            }
        }
    }
}
