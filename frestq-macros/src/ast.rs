//! The item under an attribute.

use proc_macro2::TokenStream;
use syn::{
    Attribute, FnArg, Generics, Ident, ImplItem, ItemImpl, PatType, ReturnType, Signature, Token,
    Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::attr::Owner;

/// A handler, in either form.
pub(crate) enum Handler {
    Function(Box<Function>),
    Implementation(Box<Implementation>),
}

/// A function, of which only the signature is read. What stands in its body is between the user and
/// rustc.
pub(crate) struct Function {
    /// Its `#[cfg]`s, which the registration shares.
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) signature: Signature,
}

/// An implementation of the trait `Handler`. Whether it is a right one is between the user and
/// rustc.
pub(crate) struct Implementation {
    /// As of a function.
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) generics: Generics,
    /// The type that implements it.
    pub(crate) ty: Type,
    /// What it names as its input and output, for errors to point at.
    pub(crate) input: Option<Type>,
    pub(crate) output: Option<Type>,
    /// What it writes itself, so that it is worth asking.
    pub(crate) handles_errors: bool,
    pub(crate) reserves: bool,
    pub(crate) cancels_reservations: bool,
    /// It says what it reserves.
    pub(crate) names_reservation: bool,
}

impl Handler {
    pub(crate) fn parse(owner: Owner, item: TokenStream) -> syn::Result<Self> {
        let parser = |input: ParseStream<'_>| Self::parse_item(owner, input);
        parser.parse2(item)
    }

    fn parse_item(owner: Owner, input: ParseStream<'_>) -> syn::Result<Self> {
        let mut conditions = input.call(Attribute::parse_outer)?;
        conditions.retain(|attribute| attribute.path().is_ident("cfg"));
        // The second place is that of an `unsafe impl`.
        let implementation = input.peek(Token![impl]) || input.peek2(Token![impl]);
        if owner == Owner::Task && implementation {
            Implementation::new(owner, conditions, input.parse()?)
                .map(Box::new)
                .map(Handler::Implementation)
        } else {
            Function::parse(owner, conditions, input)
                .map(Box::new)
                .map(Handler::Function)
        }
    }
}

impl Function {
    fn parse(
        owner: Owner,
        conditions: Vec<Attribute>,
        input: ParseStream<'_>,
    ) -> syn::Result<Self> {
        input.parse::<Visibility>()?;
        let start = input.cursor();
        let signature = input
            .parse::<Signature>()
            .map_err(|_| syn::Error::new(start.span(), owner.belongs()))?;
        input.parse::<TokenStream>()?;
        Ok(Self {
            conditions,
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

impl Implementation {
    /// Of the trait that the attribute is for.
    pub(crate) fn of_director(item: TokenStream) -> syn::Result<Self> {
        let parser = |input: ParseStream<'_>| {
            let mut conditions = input.call(Attribute::parse_outer)?;
            conditions.retain(|attribute| attribute.path().is_ident("cfg"));
            let start = input.cursor();
            let block = input
                .parse()
                .map_err(|_| syn::Error::new(start.span(), Owner::Director.belongs()))?;
            Self::new(Owner::Director, conditions, block)
        };
        parser.parse2(item)
    }

    fn new(owner: Owner, conditions: Vec<Attribute>, block: ItemImpl) -> syn::Result<Self> {
        let wanted = match owner {
            Owner::Director => "Director",
            _ => "Handler",
        };
        let named = |path: &syn::Path| path.segments.last().is_some_and(|s| s.ident == wanted);
        match &block.trait_ {
            Some((None, path, _)) if named(path) => {}
            Some((_, path, _)) => {
                return Err(syn::Error::new_spanned(path, owner.belongs()));
            }
            None => {
                return Err(syn::Error::new_spanned(block.impl_token, owner.belongs()));
            }
        }
        let ty = |name: &str| {
            block.items.iter().find_map(|item| match item {
                ImplItem::Type(item) if item.ident == name => Some(item.ty.clone()),
                _ => None,
            })
        };
        let writes = |name: &str| {
            let is = |ident: &Ident| ident == name;
            block
                .items
                .iter()
                .any(|item| matches!(item, ImplItem::Fn(item) if is(&item.sig.ident)))
        };
        Ok(Self {
            conditions,
            input: ty("Input"),
            output: ty("Output"),
            handles_errors: writes("handle_error"),
            reserves: writes("reserve"),
            cancels_reservations: writes("cancel_reservation"),
            names_reservation: ty("Reservation").is_some(),
            generics: block.generics,
            ty: *block.self_ty,
        })
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn implementation(item: TokenStream) -> Option<Implementation> {
        match Handler::parse(Owner::Task, item) {
            Ok(Handler::Implementation(implementation)) => Some(*implementation),
            _ => None,
        }
    }

    #[test]
    fn only_what_the_block_writes_counts_as_handling_errors() {
        let without = implementation(quote!(
            #[cfg(unix)]
            #[allow(unused)]
            impl frestq::Handler for Mixer {
                type Input = Name;
                async fn execute(&self) {}
            }
        ))
        .unwrap();
        assert!(!without.handles_errors);
        assert!(without.input.is_some() && without.output.is_none());
        assert_eq!(without.conditions.len(), 1);
        let with = implementation(quote!(
            impl Handler for Mixer {
                async fn handle_error(&self) {}
            }
        ));
        assert!(with.unwrap().handles_errors);
    }

    #[test]
    fn implementations_of_anything_else_are_refused() {
        for item in [
            quote!(impl Mixer {}),
            quote!(impl Clone for Mixer {}),
            quote!(impl !Handler for Mixer {}),
            quote!(
                unsafe impl Handler::Other for Mixer {}
            ),
        ] {
            let error = Handler::parse(Owner::Task, item.clone()).err();
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(
                message.contains("`impl Handler for ...`"),
                "{item}: {message}"
            );
        }
    }

    #[test]
    fn a_message_is_handled_by_functions_only() {
        let item = quote!(
            impl Handler for Mixer {}
        );
        let error = Handler::parse(Owner::Message, item).err().unwrap();
        assert!(error.to_string().contains("goes on an async function: "));
    }
}
