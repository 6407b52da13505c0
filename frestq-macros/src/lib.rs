//! The attributes and derives of frestq.
//!
//! They are documented where frestq re-exports them. The work goes in steps, each a module: the
//! attribute's arguments (`attr`) and the user's item (`ast`) are parsed, faults are rejected
//! (`valid`), and code is made of the rest (`expand`), or, if there are faults, just enough
//! (`fallback`) that a build shows them all and nothing that merely follows from them.

mod ast;
mod attr;
mod expand;
mod fallback;
mod valid;

use proc_macro::TokenStream;

use self::{attr::Owner, valid::Faults};

#[allow(missing_docs, reason = "documented where frestq re-exports it")]
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler(Owner::Task, arguments.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented where frestq re-exports it")]
#[proc_macro_attribute]
pub fn message(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler(Owner::Message, arguments.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented where frestq re-exports it")]
#[proc_macro_attribute]
pub fn director(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let mut faults = Faults::default();
    let arguments = attr::of_attribute(Owner::Director, arguments.into(), &mut faults);
    match ast::Implementation::of_director(item.clone()) {
        Ok(block) => {
            valid::director(&block, &arguments, &mut faults);
            let addition = match faults.is_empty() {
                true => expand::director(&block, &arguments),
                false => proc_macro2::TokenStream::new(),
            };
            fallback::with_faults(quote::quote!(#item #addition), faults).into()
        }
        Err(error) => {
            faults.push(error);
            fallback::with_faults(item, faults).into()
        }
    }
}

#[allow(missing_docs, reason = "documented where frestq re-exports it")]
#[proc_macro_derive(Action, attributes(action))]
pub fn action(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    let mut faults = Faults::default();
    let arguments = attr::of_derive(&input, &mut faults);
    valid::action(&input, &arguments, &mut faults);
    let implementation = expand::action(&input, &arguments);
    fallback::with_faults(implementation, faults).into()
}

/// An attribute on a handler.
fn handler(
    owner: Owner,
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut faults = Faults::default();
    let arguments = attr::of_attribute(owner, arguments, &mut faults);
    let handler = match ast::Handler::parse(owner, item.clone()) {
        Ok(handler) => handler,
        Err(error) => {
            faults.push(error);
            return fallback::with_faults(fallback::foreign(item), faults);
        }
    };
    let sound = valid::item(owner, &handler, &mut faults);
    valid::handler(owner, &handler, &arguments, &mut faults);
    let addition = if faults.is_empty() {
        expand::registration(owner, &handler, &arguments)
    } else if sound {
        expand::checks(owner, &handler, &arguments)
    } else {
        proc_macro2::TokenStream::new()
    };
    let item = fallback::item(&handler, item);
    fallback::with_faults(quote::quote!(#item #addition), faults)
}
