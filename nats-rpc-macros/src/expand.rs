//! The expansion of a handler.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::{Error, Visibility};

use crate::args::Queue;
use crate::check;
use crate::contract::contract;
use crate::endpoint::endpoint;
use crate::errors::Errors;
use crate::item::{Item, Written};
use crate::model::{Function, Handler, Kind, Route};

/// Expands all nats-rpc attributes on `item`, of which the compiler expanded `first`.
pub(crate) fn handler(first: Written, item: TokenStream) -> TokenStream {
    let item = Item::new(first, item);
    let mut errors = Errors::default();
    let read = read(&item, &mut errors);
    let kept = kept(&item, &read);
    let added = match &read {
        Some((handler, function)) if errors.is_empty() => routes(&item, handler, function),
        Some((handler, function)) => no_routes(&item, handler, function),
        None => TokenStream::new(),
    };
    let cfgs = item.cfgs();
    let errors = errors.to_compile_errors().into_iter().map(|error| quote!(#(#cfgs)* #error));
    quote!(#kept #added #(#errors)*)
}

/// Returns the item as written, without the nats-rpc attributes.
fn kept(item: &Item, read: &Option<(Handler, Function)>) -> TokenStream {
    match read {
        // The compiler would also report an async `main`.
        Some((_, function)) if function.sig.ident == "main" => quote!(
            fn main() {}
        ),
        _ => {
            let (foreign, rest) = (&item.foreign, &item.rest);
            quote!(#(#foreign)* #rest)
        }
    }
}

/// Parses and checks everything. An item that cannot be a function has no expansion.
fn read(item: &Item, errors: &mut Errors) -> Option<(Handler, Function)> {
    if !check::has_pattern(item, errors) {
        return None;
    }
    let handler = Handler::read(item, errors);
    check::attributes(item, &handler, errors);
    let function = errors.take(syn::parse2(item.rest.clone()).map_err(|error| no_function(&item.rest, error)))?;
    check::function(&function, errors);
    Some((handler, function))
}

/// Returns the reason why an item is not a function.
fn no_function(item: &TokenStream, error: Error) -> Error {
    let is = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident == word);
    let tokens = || item.clone().into_iter();
    if tokens().any(|token| is(&token, "fn")) {
        return error;
    }
    let kinds = ["struct", "enum", "union", "trait", "impl", "mod", "const", "static", "type", "use", "extern"];
    let keyword = tokens().find(|token| kinds.iter().any(|kind| is(token, kind)));
    Error::new_spanned(keyword.map_or_else(|| item.clone(), Into::into), "a handler is an `async fn`, and this is none")
}

/// Generates the hidden type that `handlers![…]` reads, which shares the name with the function.
fn sibling(item: &Item, function: &Function) -> TokenStream {
    let cfgs = item.cfgs();
    let vis = match &function.vis {
        Visibility::Inherited => TokenStream::new(),
        vis => vis.to_token_stream(),
    };
    let name = &function.sig.ident;
    quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(dead_code, non_camel_case_types, unreachable_pub)]
        #vis struct #name {}
    }
}

/// Generates a substitute for the routes of a handler with mistakes, so that no code reports it as missing. A method
/// gets none, because the type could not exist beside it.
fn no_routes(item: &Item, handler: &Handler, function: &Function) -> TokenStream {
    if function.sig.receiver().is_some() || !function.has_body() {
        return TokenStream::new();
    }
    let cfgs = item.cfgs();
    let krate = &handler.krate;
    let name = &function.sig.ident;
    let sibling = sibling(item, function);
    let resolve = resolve(item);
    quote! {
        #sibling
        #(#cfgs)*
        const _: () = {
            #resolve
            use #krate::__private as __rpc;
            impl __rpc::HasRoutes for #name {
                const ROUTES: &'static [__rpc::Route] = &[];
            }
        };
    }
}

/// Names the attributes that were removed without expansion; otherwise the compiler reports their imports as unused.
fn resolve(item: &Item) -> TokenStream {
    let paths = item.ours.iter().filter_map(|written| written.meta.as_ref()).map(syn::Meta::path);
    quote!(#(#[allow(unused_imports)] use #paths as _;)*)
}

fn routes(item: &Item, handler: &Handler, function: &Function) -> TokenStream {
    let cfgs = item.cfgs();
    let krate = &handler.krate;
    let name = &function.sig.ident;
    let sibling = sibling(item, function);
    let resolve = resolve(item);
    let endpoint = endpoint(handler, function);
    let contract = contract(handler, function);
    let routes = handler.routes.iter().map(|route| self::route(route, handler, function));
    let count = handler.routes.len();
    quote! {
        #sibling
        #(#cfgs)*
        const _: () = {
            #resolve
            use #krate::__private as __rpc;
            #endpoint
            #contract
            static __ROUTES: [__rpc::Route; #count] = [#(#routes),*];
            impl __rpc::HasRoutes for #name {
                const ROUTES: &'static [__rpc::Route] = &__ROUTES;
            }
            __rpc::inventory::submit! { __rpc::Submitted(&__ROUTES) }
        };
    }
}

/// Generates the static record of one pattern.
fn route(route: &Route, handler: &Handler, function: &Function) -> TokenStream {
    let Route { kind, pattern, options } = route;
    let pattern = &pattern.text;
    let kind = match kind {
        Kind::Message => quote!(Message),
        Kind::Event => quote!(Event),
    };
    let name = function.sig.ident.unraw().to_string();
    let line = quote_spanned!(function.sig.ident.span()=> ::core::line!());
    let guards = handler.guards.iter().map(|guard| &guard.text);
    let public = handler.public;
    let queue = match &options.queue {
        None => quote!(__rpc::Queue::Default),
        Some(Queue::None) => quote!(__rpc::Queue::None),
        Some(Queue::Named(group)) => quote!(__rpc::Queue::Named(#group)),
    };
    let timeout_ms = option(options.timeout_ms);
    let concurrency = option(options.concurrency);
    let run_to_completion = options.run_to_completion;
    quote! {
        __rpc::Route {
            pattern: #pattern,
            kind: __rpc::Kind::#kind,
            package: ::core::env!("CARGO_PKG_NAME"),
            handler: #name,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: #line,
            guards: &[#(#guards),*],
            public: #public,
            queue: #queue,
            timeout_ms: #timeout_ms,
            concurrency: #concurrency,
            run_to_completion: #run_to_completion,
            bind: __bind,
            contract: __contract,
        }
    }
}

fn option(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(__rpc::Some(#value)),
        None => quote!(__rpc::None),
    }
}
