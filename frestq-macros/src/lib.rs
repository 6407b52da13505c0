//! The attributes and derives of frestq.
//!
//! Their documentation is at their re-exports in frestq. Each module is one step, and imports only
//! from those before it:
//!
//! 1. `faults` collects compile errors.
//! 2. `owner` describes the attributes.
//! 3. `value` and `attr` parse the arguments.
//! 4. `ast` parses the user's item.
//! 5. `valid` checks both.
//! 6. `fallback` keeps the user's item next to errors, so that they cause no others.
//! 7. `expand` generates the code.

mod ast;
mod attr;
mod expand;
mod fallback;
mod faults;
mod owner;
mod valid;
mod value;

use proc_macro::TokenStream;

use self::{faults::Faults, owner::Owner};

#[allow(missing_docs, reason = "documented at its re-export in frestq")]
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler(Owner::Task, arguments.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented at its re-export in frestq")]
#[proc_macro_attribute]
pub fn message(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler(Owner::Message, arguments.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented at its re-export in frestq")]
#[proc_macro_attribute]
pub fn director(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let mut faults = Faults::default();
    let arguments = attr::of_attribute(Owner::Director, arguments.into(), &mut faults);
    match ast::Implementation::parse_director(item.clone()) {
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

#[allow(missing_docs, reason = "documented at its re-export in frestq")]
#[proc_macro_derive(Action, attributes(action))]
pub fn action(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    let mut faults = Faults::default();
    let arguments = attr::of_derive(&input, &mut faults);
    valid::action(&input, &arguments, &mut faults);
    let implementation = expand::action(&input, &arguments);
    fallback::with_faults(implementation, faults).into()
}

/// Expands the attribute of a handler.
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
            return fallback::with_faults(fallback::unsupported_item(item), faults);
        }
    };
    let types_checkable = valid::item(owner, &handler, &mut faults);
    valid::handler(owner, &handler, &arguments, &mut faults);
    let addition = if faults.is_empty() {
        expand::registration(owner, &handler, &arguments)
    } else if types_checkable {
        expand::checks(owner, &handler, &arguments)
    } else {
        proc_macro2::TokenStream::new()
    };
    let item = fallback::item(&handler, item);
    fallback::with_faults(quote::quote!(#item #addition), faults)
}
