//! The code emitted next to errors: the user's item, so that other code still finds it and one
//! mistake gives one error.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::quote;

use crate::{ast::Handler, faults::Faults, owner::Owner};

/// The user's item. A function that takes `self` is left out, because rustc would report it a
/// second time.
pub(crate) fn item(handler: &Handler, item: TokenStream) -> TokenStream {
    match handler {
        Handler::Function(function) if function.signature.receiver().is_some() => {
            TokenStream::new()
        }
        // Associated types have no defaults in stable Rust, so the missing one is added. A block
        // without `Input` implements another trait of the same name and is left alone.
        Handler::Implementation(block) if !block.declares_reservation && block.input.is_some() => {
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

/// An item that the attribute doesn't support, with the additions of the attribute that would.
pub(crate) fn unsupported_item(item: TokenStream) -> TokenStream {
    match Handler::parse(Owner::Task, item.clone()) {
        Ok(handler) => self::item(&handler, item),
        Err(_) => item,
    }
}

/// Adds a member to a block. The other tokens keep their spans.
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

/// Appends the faults to the emitted code.
pub(crate) fn with_faults(emitted: TokenStream, faults: Faults) -> TokenStream {
    let errors = faults.into_compile_errors();
    quote!(#emitted #errors)
}
