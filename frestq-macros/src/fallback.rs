//! What is emitted beside errors: the user's own code, so that other places still find it and a
//! mistake gives one error.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{ast::Handler, valid::Faults};

/// The user's item. Not if it is a function that takes `self`, which rustc would report a second
/// time.
pub(crate) fn item(handler: &Handler, item: TokenStream) -> TokenStream {
    match handler {
        Handler::Function(function) if function.signature.receiver().is_some() => {
            TokenStream::new()
        }
        _ => item,
    }
}

/// The faults, after whatever can stand.
pub(crate) fn with_faults(emitted: TokenStream, faults: Faults) -> TokenStream {
    let errors = faults.into_compile_errors();
    quote!(#emitted #errors)
}
