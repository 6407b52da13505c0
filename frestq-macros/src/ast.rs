//! Parses the item that an attribute is on.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Generics, Ident, ImplItem, ItemImpl, PatType, ReturnType, Signature, Token,
    Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::owner::Owner;

/// A handler in one of its two forms.
pub(crate) enum Handler {
    Function(Box<Function>),
    Implementation(Box<Implementation>),
}

/// A function. Only its signature is parsed; rustc checks the body.
pub(crate) struct Function {
    /// The `#[cfg]` attributes, which the registration repeats.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) signature: Signature,
}

/// An implementation of `Handler` or `Director`. rustc checks it against the trait.
pub(crate) struct Implementation {
    /// The `#[cfg]` attributes, which the registration repeats.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) generics: Generics,
    /// The type that implements the trait.
    pub(crate) ty: Type,
    /// The associated types as written, so that errors can point at them.
    pub(crate) input: Option<Type>,
    pub(crate) output: Option<Type>,
    /// Which optional methods the block writes. frestq calls only those.
    pub(crate) handles_errors: bool,
    pub(crate) reserves: bool,
    pub(crate) cancels_reservations: bool,
    /// Whether the block has a `type Reservation`.
    pub(crate) declares_reservation: bool,
}

impl Handler {
    pub(crate) fn parse(owner: Owner, item: TokenStream) -> syn::Result<Self> {
        let parser = |input: ParseStream<'_>| Self::parse_item(owner, input);
        parser.parse2(item)
    }

    fn parse_item(owner: Owner, input: ParseStream<'_>) -> syn::Result<Self> {
        let cfgs = parse_cfgs(input)?;
        // The second token of an `unsafe impl` is `impl`.
        let implementation = input.peek(Token![impl]) || input.peek2(Token![impl]);
        if owner == Owner::Task && implementation {
            Implementation::new(owner, cfgs, input.parse()?)
                .map(Box::new)
                .map(Handler::Implementation)
        } else {
            Function::parse(owner, cfgs, input)
                .map(Box::new)
                .map(Handler::Function)
        }
    }
}

impl Function {
    fn parse(owner: Owner, cfgs: Vec<Attribute>, input: ParseStream<'_>) -> syn::Result<Self> {
        input.parse::<Visibility>()?;
        let start = input.cursor();
        let signature = input
            .parse::<Signature>()
            .map_err(|_| syn::Error::new(start.span(), owner.misplaced()))?;
        input.parse::<TokenStream>()?;
        Ok(Self { cfgs, signature })
    }

    /// The arguments, without a receiver.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &PatType> {
        self.signature
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(argument) => Some(argument),
                FnArg::Receiver(_) => None,
            })
    }

    /// The type of the first argument, which is the input or the message.
    pub(crate) fn first_type(&self) -> Option<&Type> {
        self.arguments().next().map(|argument| &*argument.ty)
    }

    /// The return type, if one is written.
    pub(crate) fn return_type(&self) -> Option<&Type> {
        match &self.signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        }
    }
}

impl Implementation {
    /// Parses an implementation of `Director`.
    pub(crate) fn parse_director(item: TokenStream) -> syn::Result<Self> {
        let parser = |input: ParseStream<'_>| {
            let cfgs = parse_cfgs(input)?;
            let start = input.cursor();
            let block = input
                .parse()
                .map_err(|_| syn::Error::new(start.span(), Owner::Director.misplaced()))?;
            Self::new(Owner::Director, cfgs, block)
        };
        parser.parse2(item)
    }

    fn new(owner: Owner, cfgs: Vec<Attribute>, block: ItemImpl) -> syn::Result<Self> {
        let expected = match owner {
            Owner::Director => "Director",
            _ => "Handler",
        };
        let matches = |path: &syn::Path| path.segments.last().is_some_and(|s| s.ident == expected);
        match &block.trait_ {
            Some((None, path, _)) if matches(path) => {}
            Some((_, path, _)) => {
                return Err(syn::Error::new_spanned(path, owner.misplaced()));
            }
            None => {
                return Err(syn::Error::new_spanned(block.impl_token, owner.misplaced()));
            }
        }
        let associated_type = |name: &str| {
            block.items.iter().find_map(|item| match item {
                ImplItem::Type(item) if item.ident == name => Some(item.ty.clone()),
                _ => None,
            })
        };
        let has_method = |name: &str| {
            let matches = |ident: &Ident| ident == name;
            block
                .items
                .iter()
                .any(|item| matches!(item, ImplItem::Fn(item) if matches(&item.sig.ident)))
        };
        Ok(Self {
            cfgs,
            input: associated_type("Input"),
            output: associated_type("Output"),
            handles_errors: has_method("handle_error"),
            reserves: has_method("reserve"),
            cancels_reservations: has_method("cancel_reservation"),
            declares_reservation: associated_type("Reservation").is_some(),
            generics: block.generics,
            ty: *block.self_ty,
        })
    }
}

/// Parses the outer attributes and keeps each `#[cfg]`.
fn parse_cfgs(input: ParseStream<'_>) -> syn::Result<Vec<Attribute>> {
    let mut attributes = input.call(Attribute::parse_outer)?;
    attributes.retain(|attribute| attribute.path().is_ident("cfg"));
    Ok(attributes)
}

/// A type close to how a user writes it: the spaces between its tokens are mostly removed.
pub(crate) fn type_text(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    [
        (" :: ", "::"),
        (" < ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
    ]
    .into_iter()
    .fold(text, |text, (from, to)| text.replace(from, to))
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
    fn a_block_handles_errors_only_if_it_has_the_method() {
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
        assert_eq!(without.cfgs.len(), 1);
        let with = implementation(quote!(
            impl Handler for Mixer {
                async fn handle_error(&self) {}
            }
        ));
        assert!(with.unwrap().handles_errors);
    }

    #[test]
    fn implementations_of_other_traits_are_rejected() {
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
    fn only_a_function_can_handle_a_message() {
        let item = quote!(
            impl Handler for Mixer {}
        );
        let error = Handler::parse(Owner::Message, item).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("goes on an async function, because ")
        );
    }
}
