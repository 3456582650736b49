//! Checks of the handler as a whole, beyond those of each attribute alone.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Error, FnArg, GenericParam, Lifetime, PatType, Safety, Type};

use crate::errors::Errors;
use crate::item::{Item, Name};
use crate::model::{Function, Handler};

/// Returns `true` if the item has a pattern. Without one, other mistakes are not worth reporting.
pub(crate) fn has_pattern(item: &Item, errors: &mut Errors) -> bool {
    let pattern = |name| matches!(name, Name::MessagePattern | Name::EventPattern);
    if item.ours.iter().any(|written| pattern(written.name)) {
        return true;
    }
    if let Some(first) = item.ours.first() {
        let name = first.name.as_str();
        let message = format!(
            "`{name}` without a pattern does nothing: add `#[message_pattern(\"…\")]` or `#[event_pattern(\"…\")]`"
        );
        errors.push(first.error(message));
    }
    false
}

/// Checks the attributes against each other.
pub(crate) fn attributes(item: &Item, handler: &Handler, errors: &mut Errors) {
    let mut seen = Vec::new();
    for route in &handler.routes {
        let subject = route.pattern.subject();
        if seen.contains(&subject) {
            let message = format!("this function already listens to `{subject}`: remove one of the two patterns");
            errors.push(Error::new_spanned(&route.pattern.written, message));
        }
        seen.push(subject);
    }
    let mut publics = item.ours.iter().filter(|written| written.name == Name::Public);
    let Some(public) = publics.next() else { return };
    for again in publics {
        errors.push(again.error("`#[public]` is given twice: remove one"));
    }
    let has = |wanted| item.ours.iter().any(|written| written.name == wanted);
    if !has(Name::MessagePattern) {
        errors.push(public.error("events need no guard, so `#[public]` says nothing here: remove it"));
    } else if has(Name::UseGuards) {
        errors
            .push(public.error("`#[public]` says that no guard is needed, and `#[use_guards]` names one: remove one"));
    }
}

/// Checks the function's signature.
pub(crate) fn function(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    let mut refuse = |tokens: &dyn ToTokens, message: &str| {
        errors.push(Error::new_spanned(tokens, message));
    };
    if sig.ident == "main" {
        refuse(&sig.ident, "`main` starts the service and cannot be a handler: rename one");
    }
    if let Some(constness) = &sig.constness {
        refuse(constness, "a handler is an `async fn`: remove `const`");
    } else if sig.asyncness.is_none() {
        refuse(&sig.fn_token, "a handler is async: write `async fn`");
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        refuse(unsafety, "a handler is called by safe code: remove `unsafe`");
    }
    if let Some(abi) = &sig.abi {
        refuse(abi, "a handler is a Rust function: remove the `extern`");
    } else if let Some(variadic) = &sig.variadic {
        refuse(variadic, "a handler takes a fixed number of arguments: remove the `...`");
    }
    for param in &sig.generics.params {
        match param {
            GenericParam::Lifetime(_) => refuse(param, "a handler owns its arguments: remove the lifetime"),
            _ => refuse(param, "a handler is one function for one subject: write the type out, without generics"),
        }
    }
    if !function.has_body() {
        refuse(&sig.ident, "a handler is a function with a body: the attribute cannot stand on a trait's method");
    }
    for arg in &sig.inputs {
        match arg {
            FnArg::Receiver(receiver) => {
                refuse(
                    receiver,
                    "a handler is a free function: take what it shares as `State(…): State<…>`, not `self`",
                );
            }
            FnArg::Typed(arg) => {
                if let Some((tokens, message)) = argument(arg) {
                    refuse(&tokens, message);
                }
            }
        }
    }
}

/// Returns the mistake in an argument. One mistake of each argument is enough to report.
fn argument(arg: &PatType) -> Option<(TokenStream, &'static str)> {
    if let Some(cfg) = arg.attrs.iter().find(|attribute| attribute.path().is_ident("cfg")) {
        let message = "an argument cannot depend on `cfg`: write the handler twice, each under its own `#[cfg(…)]`";
        return Some((cfg.to_token_stream(), message));
    }
    let mut visitor = Borrowed { found: None };
    visitor.visit_type(&arg.ty);
    visitor.found
}

/// Finds parts that the type of an argument must not have.
struct Borrowed {
    found: Option<(TokenStream, &'static str)>,
}

impl Borrowed {
    fn find(&mut self, tokens: &impl ToTokens, message: &'static str) {
        self.found.get_or_insert_with(|| (tokens.to_token_stream(), message));
    }
}

impl<'ast> Visit<'ast> for Borrowed {
    fn visit_type(&mut self, ty: &'ast Type) {
        match ty {
            Type::Reference(reference) if reference.lifetime.is_none() => {
                self.find(ty, "arguments are extractors, and own what they take: remove the `&`");
            }
            Type::ImplTrait(_) => {
                self.find(ty, "an argument's type says what to take from the request: name it in place of `impl`");
            }
            // References inside are arguments of the function type, and do not borrow from the request.
            Type::FnPtr(_) => {}
            _ => visit::visit_type(self, ty),
        }
    }

    fn visit_parenthesized_generic_arguments(&mut self, _: &'ast syn::ParenthesizedGenericArguments) {}

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "_" {
            self.find(lifetime, "arguments are extractors, and own what they take: use a type without a lifetime");
        }
    }
}
