//! What is emitted beside errors: the user's own code, so that other places still find it and a
//! mistake gives one error.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::quote;

use crate::{ast::Handler, attr::Owner, valid::Faults};

/// The user's item. Not if it is a function that takes `self`, which rustc would report a second
/// time.
pub(crate) fn item(handler: &Handler, item: TokenStream) -> TokenStream {
    match handler {
        Handler::Function(function) if function.signature.receiver().is_some() => {
            TokenStream::new()
        }
        // Associated types have no defaults yet. Another trait of that name has no input.
        Handler::Implementation(block) if !block.names_reservation && block.input.is_some() => {
            with_member(
                item,
                quote!(
                    type Reservation = ();
                ),
            )
        }
        _ => item,
    }
}

/// An item that the attribute can't go on, with what another one would have added to it.
pub(crate) fn foreign(item: TokenStream) -> TokenStream {
    match Handler::parse(Owner::Task, item.clone()) {
        Ok(handler) => self::item(&handler, item),
        Err(_) => item,
    }
}

/// Adds a member to a block, whose other tokens stay where they are.
fn with_member(item: TokenStream, member: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    if let Some(TokenTree::Group(block)) = tokens.last()
        && block.delimiter() == Delimiter::Brace
    {
        let members = block.stream();
        let mut added = Group::new(Delimiter::Brace, quote!(#members #member));
        added.set_span(block.span());
        tokens.pop();
        tokens.push(added.into());
    }
    tokens.into_iter().collect()
}

/// The faults, after whatever can stand.
pub(crate) fn with_faults(emitted: TokenStream, faults: Faults) -> TokenStream {
    let errors = faults.into_compile_errors();
    quote!(#emitted #errors)
}
