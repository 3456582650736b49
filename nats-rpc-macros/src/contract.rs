//! What a handler takes and answers, as far as its types can tell.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::FnArg;

use crate::model::{Function, Handler};

/// `fn __contract`, which asks each type for its shape; one that has none is asked all the same.
pub(crate) fn contract(handler: &Handler, function: &Function) -> TokenStream {
    let types = function.sig.inputs.iter().filter_map(|arg| match arg {
        FnArg::Typed(arg) => Some(&*arg.ty),
        FnArg::Receiver(_) => None,
    });
    let taken = types.map(|ty| quote!(.taken((&&&__rpc::Shape::<#ty>::new()).taken())));
    let name = &function.sig.ident;
    let args: Vec<_> = (0..function.sig.inputs.len()).map(|index| format_ident!("__x{index}")).collect();
    // Nobody calls the closure; it tells what the function returns, which may have no name.
    let answered = handler
        .answers()
        .then(|| quote!(.answered((&&&__rpc::Shape::returned_by(|(#(#args,)*)| #name(#(#args),*))).answered())));
    let import = (!function.sig.inputs.is_empty() || answered.is_some()).then(|| {
        quote!(
            use __rpc::Describe as _;
        )
    });
    quote! {
        #[allow(deprecated)]
        fn __contract() -> __rpc::Contract {
            #import
            __rpc::Contract::new()#(#taken)*#answered
        }
    }
}
