//! The tokens that a handler becomes.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, Ident, ReturnType, Type, Visibility};

use crate::args::{GuardSource, Queue};
use crate::check;
use crate::errors::Errors;
use crate::item::{Item, Written};
use crate::model::{Function, Handler, Kind, Route};
use crate::text::text;

/// Expands all of our attributes on `item`, of which `first` was found first.
pub(crate) fn handler(first: Written, item: TokenStream) -> TokenStream {
    let item = Item::new(first, item);
    let mut errors = Errors::default();
    let expansion = match read(&item, &mut errors) {
        Some((handler, function)) if errors.is_empty() => routes(&item, &handler, &function),
        Some((handler, function)) => no_routes(&item, &handler, &function),
        None => TokenStream::new(),
    };
    let cfgs = item.cfgs();
    let errors = errors.to_compile_errors().into_iter().map(|error| quote!(#(#cfgs)* #error));
    let (foreign, rest) = (&item.foreign, &item.rest);
    quote! {
        #(#foreign)* #rest
        #expansion
        #(#errors)*
    }
}

/// Reads and checks everything; what cannot even be a function has no expansion.
fn read(item: &Item, errors: &mut Errors) -> Option<(Handler, Function)> {
    check::hidden(item, errors);
    if !check::has_pattern(item, errors) {
        return None;
    }
    let handler = Handler::read(item, errors);
    check::attributes(item, &handler, errors);
    let function = errors.take(syn::parse2(item.rest.clone()).map_err(|error| no_function(&item.rest, error)))?;
    check::function(&function, errors);
    Some((handler, function))
}

/// Why an item is no function.
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

/// The hidden type that `handlers![…]` reads, which shares the name with the function.
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

/// What keeps a handler that has mistakes of its own from being missed elsewhere.
fn no_routes(item: &Item, handler: &Handler, function: &Function) -> TokenStream {
    if function.sig.receiver().is_some() {
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

/// Names the attributes that were taken off unexpanded, for else the compiler calls their imports unused.
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
    let routes = handler.routes.iter().map(|route| self::route(route, handler, function));
    let count = handler.routes.len();
    quote! {
        #sibling
        #(#cfgs)*
        const _: () = {
            #resolve
            use #krate::__private as __rpc;
            #endpoint
            static __ROUTES: [__rpc::Route; #count] = [#(#routes),*];
            impl __rpc::HasRoutes for #name {
                const ROUTES: &'static [__rpc::Route] = &__ROUTES;
            }
            __rpc::inventory::submit! { __rpc::Submitted(&__ROUTES) }
        };
    }
}

/// What is bound at start-up, how it is bound, and how it is called.
fn endpoint(handler: &Handler, function: &Function) -> TokenStream {
    let name = &function.sig.ident;
    let args: Vec<Argument<'_>> = function.sig.inputs.iter().enumerate().filter_map(Argument::new).collect();
    let guards: Vec<BoundGuard> = handler.guards.iter().enumerate().map(BoundGuard::new).collect();

    let guard_types: Vec<_> = guards.iter().map(|guard| &guard.generic).collect();
    let guard_fields: Vec<_> = guards.iter().map(|guard| &guard.field).collect();
    let arg_types: Vec<_> = args.iter().map(|arg| &arg.generic).collect();
    let arg_fields: Vec<_> = args.iter().map(|arg| &arg.field).collect();
    let bounds = args.iter().map(Argument::bound);
    let fields: Vec<_> = guard_fields.iter().chain(&arg_fields).collect();

    let activate = guard_fields.iter().map(|field| {
        quote! {
            __rpc::Guard::can_activate(&self.#field, &mut __request).await?;
        }
    });
    let extract = args.iter().map(Argument::extract);
    let locals = args.iter().map(|arg| &arg.local);
    let request = match fields.is_empty() {
        true => quote!(_request),
        false => quote!(mut __request),
    };
    let wrap = wrap(&function.sig.output);

    let bind_guards = guards.iter().map(|guard| &guard.bind);
    let bind_args = args.iter().map(Argument::bind);
    let binder = match fields.is_empty() {
        true => quote!(_),
        false => quote!(__binder),
    };
    let bound = quote!(__rpc::Some(__rpc::BoundHandler::new(__Endpoint { #(#fields),* })));
    let bound = match fields.is_empty() {
        true => bound,
        false => quote! {
            match (#(#fields,)*) {
                (#(__rpc::Some(#fields),)*) => #bound,
                _ => __rpc::None,
            }
        },
    };

    quote! {
        struct __Endpoint<#(#guard_types,)* #(#arg_types,)*> {
            #(#guard_fields: #guard_types,)*
            #(#arg_fields: #arg_types,)*
        }
        #[allow(deprecated)]
        impl<#(#guard_types: __rpc::Guard,)*> __rpc::Handler for __Endpoint<#(#guard_types,)* #(#bounds,)*> {
            fn call(
                &self,
                #request: __rpc::Request,
            ) -> impl __rpc::Future<Output = __rpc::Result<impl __rpc::IntoReply + __rpc::Send, __rpc::RpcError>>
                + __rpc::Send
            {
                async move {
                    #(#activate)*
                    #(#extract)*
                    let __reply = #name(#(#locals),*).await;
                    #wrap
                }
            }
        }
        fn __bind(#binder: &mut __rpc::Binder<'_>) -> __rpc::Option<__rpc::BoundHandler> {
            #(let #guard_fields = #bind_guards;)*
            #(let #arg_fields = #bind_args;)*
            #bound
        }
    }
}

/// Makes a `Result` of what the function returned. The bounds on it are the method's, so errors stand here.
fn wrap(output: &ReturnType) -> TokenStream {
    let span = match output {
        ReturnType::Default => Span::call_site(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let wrap = quote_spanned!(span=> wrap);
    quote! {
        {
            use __rpc::{WrapPlain as _, WrapResult as _};
            (&__rpc::Probe::of(&__reply)).#wrap(__reply)
        }
    }
}

/// An argument of the function.
struct Argument<'a> {
    ty: &'a Type,
    generic: Ident,
    field: Ident,
    local: Ident,
}

impl<'a> Argument<'a> {
    fn new((index, arg): (usize, &'a FnArg)) -> Option<Self> {
        let FnArg::Typed(arg) = arg else { return None };
        let generic = format_ident!("__X{index}");
        Some(Self { ty: &arg.ty, generic, field: format_ident!("__x{index}"), local: format_ident!("__x{index}") })
    }

    fn bound(&self) -> TokenStream {
        let ty = self.ty;
        quote_spanned!(ty.span()=> <#ty as __rpc::Extract>::Bound)
    }

    fn extract(&self) -> TokenStream {
        let Self { ty, field, local, .. } = self;
        let extract = quote_spanned!(ty.span()=> <#ty as __rpc::Extract>::extract);
        quote!(let #local = #extract(&self.#field, &mut __request).await?;)
    }

    fn bind(&self) -> TokenStream {
        let ty = self.ty;
        let written = text(ty.to_token_stream());
        quote_spanned!(ty.span()=> __binder.extractor::<#ty>(#written))
    }
}

/// A guard, with the expression that binds it.
struct BoundGuard {
    generic: Ident,
    field: Ident,
    bind: TokenStream,
}

impl BoundGuard {
    fn new((index, guard): (usize, &crate::args::Guard)) -> Self {
        let written = &guard.text;
        let bind = match &guard.source {
            GuardSource::Provided(ty) => quote_spanned!(ty.span()=> __binder.guard::<#ty>(#written)),
            GuardSource::Built(expr) => quote_spanned!(expr.span()=> __binder.built(#written, #expr)),
        };
        Self { generic: format_ident!("__G{index}"), field: format_ident!("__g{index}"), bind }
    }
}

/// The static record of one pattern.
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
        }
    }
}

fn option(value: Option<impl quote::ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(__rpc::Some(#value)),
        None => quote!(__rpc::None),
    }
}
