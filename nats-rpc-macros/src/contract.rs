//! The contract of a handler: the schemas of its payload and its reply, if its types have one.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::FnArg;

use crate::model::{Function, Handler};

/// Generates `fn __contract`, which queries the shape of each type, even if it has no schema.
pub(crate) fn contract(handler: &Handler, function: &Function) -> TokenStream {
    let types = function.sig.inputs.iter().filter_map(|arg| match arg {
        FnArg::Typed(arg) => Some(&*arg.ty),
        FnArg::Receiver(_) => None,
    });
    let taken = types.map(|ty| quote!(.taken((&&&__rpc::Shape::<#ty>::new()).taken())));
    let name = &function.sig.ident;
    let args: Vec<_> = (0..function.sig.inputs.len()).map(|index| format_ident!("__x{index}")).collect();
    // The closure is never called. Its type determines the function's return type, which may have no name.
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
