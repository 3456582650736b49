//! The endpoint of a handler: its dependencies, their binding at startup, and the path of a request through it.
//!
//! A type that is not a guard, not an extractor or not a reply should cause one error, at the place where it is
//! written. The compiler reports the same unmet bound once per span, so every place that needs the bound has the span
//! of the first token of the user's code. For that, the endpoint is generic over its fields, and an argument's type is
//! named in one bound, `__Argument<T>`, and where it is bound.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{FnArg, Ident, ReturnType, Type};

use crate::args::{Guard, GuardSource};
use crate::model::{Function, Handler};
use crate::text::text;

/// Generates `struct __Endpoint`, its `Handler`, and `fn __bind`.
pub(crate) fn endpoint(handler: &Handler, function: &Function) -> TokenStream {
    let guards: Vec<_> = handler.guards.iter().enumerate().map(|(index, guard)| Part::guard(index, guard)).collect();
    let types = function.sig.inputs.iter().filter_map(|arg| match arg {
        FnArg::Typed(arg) => Some(&*arg.ty),
        FnArg::Receiver(_) => None,
    });
    let args: Vec<_> = types.enumerate().map(|(index, ty)| Part::argument(index, ty)).collect();
    let argument = (!args.is_empty()).then(argument);

    let parts: Vec<_> = guards.iter().chain(&args).collect();
    let generics: Vec<_> = parts.iter().map(|part| &part.generic).collect();
    let bounds: Vec<_> = parts.iter().map(|part| &part.bound).collect();
    let fields: Vec<_> = parts.iter().map(|part| &part.field).collect();
    let answer = answer(&guards, &args, handler, function);
    let call = call(function);
    let bind = bind(&parts, function);
    quote! {
        #argument
        struct __Endpoint<#(#generics),*> {
            #(#fields: #generics,)*
        }
        #[allow(deprecated, unused_qualifications)]
        impl<#(#generics: #bounds),*> __Endpoint<#(#generics),*> {
            #answer
        }
        #[allow(unused_qualifications)]
        impl<#(#generics: #bounds),*> __rpc::Handler for __Endpoint<#(#generics),*> {
            #call
        }
        #bind
    }
}

/// A guard or an argument.
struct Part {
    generic: Ident,
    /// The bound of `generic`.
    bound: TokenStream,
    /// The field, and the local variable that initializes it.
    field: Ident,
    /// An `Option` of the field's value.
    bind: TokenStream,
}

impl Part {
    fn guard(index: usize, guard: &Guard) -> Self {
        let written = &guard.text;
        let binder = binder();
        let (span, bind) = match &guard.source {
            GuardSource::Provided(ty) => {
                let span = ty.span();
                (span, quote_spanned!(span=> { type __G = #ty; #binder.guard::<__G>(#written) }))
            }
            GuardSource::Built(expr) => {
                let span = expr.span();
                (span, quote_spanned!(span=> { let __guard = #expr; #binder.built(#written, __guard) }))
            }
        };
        let field = format_ident!("__g{index}", span = span);
        Self { generic: format_ident!("__G{index}"), bound: quote!(__rpc::Guard), field, bind }
    }

    fn argument(index: usize, ty: &Type) -> Self {
        let written = text(ty.to_token_stream());
        let span = ty.span();
        let binder = binder();
        let bind = quote_spanned!(span=> { type __T = #ty; #binder.extractor::<__T>(#written) });
        let field = format_ident!("__x{index}", span = span);
        Self { generic: format_ident!("__X{index}"), bound: quote!(__Argument<#ty>), field, bind }
    }
}

fn binder() -> Ident {
    Ident::new("__binder", Span::call_site())
}

/// Generates a trait for the part of an extractor that runs for each request, implemented for its bound value.
fn argument() -> TokenStream {
    let extract = quote! {
        fn extract(
            &self,
            request: &mut __rpc::Request,
        ) -> impl __rpc::Future<Output = __rpc::Result<__T, __rpc::RpcError>> + __rpc::Send
    };
    quote! {
        trait __Argument<__T>: __rpc::Send + __rpc::Sync + 'static {
            #extract;
        }
        impl<__T: __rpc::Extract> __Argument<__T> for <__T as __rpc::Extract>::Bound {
            #extract {
                <__T as __rpc::Extract>::extract(self, request)
            }
        }
    }
}

/// Generates the call of the guards in written order, the arguments in written order, and the function. It is a method
/// with the function's name, because the compiler names it if the future is not `Send`.
fn answer(guards: &[Part], args: &[Part], handler: &Handler, function: &Function) -> TokenStream {
    let name = &function.sig.ident;
    let guards = guards.iter().map(|part| &part.field);
    let args: Vec<_> = args.iter().map(|part| &part.field).collect();
    let span = match &function.sig.output {
        ReturnType::Default => name.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let output = quote_spanned!(span=> __rpc::Result<impl __rpc::IntoReply + __rpc::Send, __rpc::RpcError>);
    let reply = Ident::new("__reply", span);
    let wrap = match (handler.answers(), handler.hears()) {
        (true, true) => "wrap_both",
        (false, true) => "wrap_event",
        (_, false) => "wrap",
    };
    // Only for a handler that may stream, because a service may have guards of its own.
    let validity = (wrap == "wrap").then(|| quote!(, __request.take_validity()));
    let request = match (guards.len() + args.len(), &validity) {
        (0, None) => quote!(_request),
        _ => quote!(mut __request),
    };
    let wrap = Ident::new(wrap, span);
    let wrap = quote_spanned!(span=> (&__rpc::Probe::of(&#reply)).#wrap(#reply #validity));
    let body = quote! {
        #(__rpc::Guard::can_activate(&self.#guards, &mut __request).await?;)*
        #(let #args = __Argument::extract(&self.#args, &mut __request).await?;)*
        let #reply = #name(#(#args),*).await;
        {
            use __rpc::{WrapPlain as _, WrapResult as _};
            #wrap
        }
    };
    // Like any local, `self` resolves only if both places have the same hygiene.
    let this = quote!(&self);
    quote_spanned!(span=> async fn #name(#this, #request: __rpc::Request) -> #output { #body })
}

/// Generates the call of the function. A future that is not `Send` is reported here, at the function's name.
fn call(function: &Function) -> TokenStream {
    let name = &function.sig.ident;
    quote_spanned! {name.span()=>
        fn call(
            &self,
            request: __rpc::Request,
        ) -> impl __rpc::Future<Output = __rpc::Result<impl __rpc::IntoReply + __rpc::Send, __rpc::RpcError>> + __rpc::Send
        {
            self.#name(request)
        }
    }
}

/// Generates the binding. It binds everything before it fails, so that it reports all missing dependencies at once.
fn bind(parts: &[&Part], function: &Function) -> TokenStream {
    let fields: Vec<_> = parts.iter().map(|part| &part.field).collect();
    let binds = parts.iter().map(|part| &part.bind);
    let bound = quote_spanned!(function.sig.ident.span()=> __rpc::BoundHandler::new(__Endpoint { #(#fields),* }));
    let (binder, bound) = match parts {
        [] => (Ident::new("_binder", Span::call_site()), quote!(__rpc::Some(#bound))),
        _ => {
            let bound = quote! {
                match (#(#fields,)*) {
                    (#(__rpc::Some(#fields),)*) => __rpc::Some(#bound),
                    _ => __rpc::None,
                }
            };
            (binder(), bound)
        }
    };
    quote! {
        fn __bind(#binder: &mut __rpc::Binder<'_>) -> __rpc::Option<__rpc::BoundHandler> {
            #(let #fields = #binds;)*
            #bound
        }
    }
}
