//! The item under an attribute.

use proc_macro2::TokenStream;
use syn::{
    Attribute, FnArg, PatType, ReturnType, Signature, Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::attr::Owner;

/// A handler: a function, of which only the signature is read. What stands in its body is between
/// the user and rustc.
pub(crate) struct Handler {
    /// Its `#[cfg]`s, which the registration shares.
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) signature: Signature,
}

impl Handler {
    pub(crate) fn parse(owner: Owner, item: TokenStream) -> syn::Result<Self> {
        let parser = |input: ParseStream<'_>| Self::parse_function(owner, input);
        parser.parse2(item)
    }

    fn parse_function(owner: Owner, input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let start = input.cursor();
        let signature = input.parse::<Signature>().map_err(|_| {
            let attribute = owner.attribute();
            syn::Error::new(
                start.span(),
                format!(
                    "`{attribute}` goes on an async function: {}",
                    owner.example()
                ),
            )
        })?;
        input.parse::<TokenStream>()?;
        Ok(Self {
            conditions: attributes
                .into_iter()
                .filter(|attribute| attribute.path().is_ident("cfg"))
                .collect(),
            signature,
        })
    }

    /// The arguments of the function, without a receiver.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &PatType> {
        self.signature
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(argument) => Some(argument),
                FnArg::Receiver(_) => None,
            })
    }

    /// The type of its first argument, where the input or the message stands.
    pub(crate) fn first(&self) -> Option<&Type> {
        self.arguments().next().map(|argument| &*argument.ty)
    }

    /// The type it returns, if it says one.
    pub(crate) fn returns(&self) -> Option<&Type> {
        match &self.signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        }
    }
}
