//! The code that is made: a registration, or an implementation of `Action`. It names everything by
//! absolute paths and leaves the logic to frestq's `__private`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{DeriveInput, Path, Type, parse_quote, spanned::Spanned};

use crate::{
    ast::Handler,
    attr::{Arguments, Owner},
};

/// Registers a handler.
pub(crate) fn registration(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let private = private(arguments);
    let kind = match owner {
        Owner::Message => quote!(Message),
        Owner::Task | Owner::Derive => quote!(Task),
    };
    let conditions = &handler.conditions;
    let name = handler.signature.ident.to_string();
    let address = address(&private, handler, arguments);
    let options = options(&private, arguments);
    let run = run(&private, owner, handler);
    let require = require(&private, owner, handler);
    // The place of this call is the one that faults at start name.
    let register = quote_spanned! {generated(handler.signature.ident.span())=>
        #private::Registration::new
    };
    quote! {
        #(#conditions)*
        #private::inventory::submit! {
            #register(
                #private::HandlerKind::#kind,
                #name,
                #address,
                #options,
                #run,
                #require,
            )
        }
    }
}

/// The checks of a handler's types alone, for one whose attribute is at fault.
pub(crate) fn checks(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let private = private(arguments);
    let conditions = &handler.conditions;
    let run = run(&private, owner, handler);
    quote! {
        #(#conditions)*
        const _: #private::Run = #run;
    }
}

/// The closure that runs a handler.
fn run(private: &TokenStream, owner: Owner, handler: &Handler) -> TokenStream {
    let task = Ident::new("task", Span::mixed_site());
    let mut names = Vec::new();
    let mut takes = Vec::new();
    for (position, argument) in handler.arguments().enumerate() {
        let ty = &argument.ty;
        let name = format_ident!("argument{position}", span = Span::mixed_site());
        let take = match (position, owner) {
            (0, Owner::Message) => quote!(message::<#ty>),
            (0, _) => quote!(Argument::<#ty>::take),
            _ => quote!(extract::<#ty>),
        };
        takes.push(quote_spanned! {generated(ty.span())=>
            let #name = #private::#take(&#task)?;
        });
        names.push(name);
    }
    let function = &handler.signature.ident;
    let returns = match handler.returns() {
        Some(ty) if !is_opaque(ty) => ty.to_token_stream(),
        _ => quote!(_),
    };
    let outcome = quote_spanned! {generated(returns.span())=> #private::outcome::<#returns> };
    quote_spanned! {generated(function.span())=>
        |#task| {
            #[allow(unused_imports)]
            use #private::OtherwiseInput as _;
            #private::future_of_a_handler_must_be_send(async move {
                #(#takes)*
                #outcome(#function(#(#names),*).await)
            })
        }
    }
}

/// The closure that says what a handler needs at start.
fn require(private: &TokenStream, owner: Owner, handler: &Handler) -> TokenStream {
    let requirements = Ident::new("requirements", Span::mixed_site());
    let needs = handler
        .arguments()
        .enumerate()
        .filter_map(|(position, argument)| {
            let ty = &argument.ty;
            let require = match (position, owner) {
                (0, Owner::Message) => return None,
                (0, _) => quote!(Argument::<#ty>::require),
                _ => quote!(require::<#ty>),
            };
            Some(quote_spanned! {generated(ty.span())=> #private::#require(#requirements); })
        });
    quote! {
        |#requirements| {
            #[allow(unused_imports)]
            use #private::OtherwiseInput as _;
            let _ = &#requirements;
            #(#needs)*
        }
    }
}

/// Where the handler's tasks come in.
fn address(private: &TokenStream, handler: &Handler, arguments: &Arguments) -> TokenStream {
    if let (Some(queue), Some(action)) = (&arguments.queue, &arguments.action) {
        return quote!(#private::Address { queue: #queue, action: #action });
    }
    let input = handler.first();
    let returns = handler.returns().filter(|ty| !is_opaque(ty));
    match (input, returns) {
        (Some(input), Some(returns)) => quote_spanned! {generated(input.span())=>
            #private::address_of::<#input, #returns>()
        },
        // An output without a name can't be compared with the declared one.
        _ => quote!(#private::address_of::<#input, _>()),
    }
}

/// What is declared about runs.
fn options(private: &TokenStream, arguments: &Arguments) -> TokenStream {
    let retries = arguments.retries.as_ref().map(|count| {
        let value = count.value;
        quote!(retries: #value,)
    });
    let max_attempts = arguments.max_attempts.as_ref().map(|count| {
        let value = count.value;
        quote!(max_attempts: #value,)
    });
    let timeout = arguments
        .timeout
        .map(|milliseconds| quote!(timeout: #private::timeout(#milliseconds),));
    let local = arguments.local.map(|_| quote!(local: true,));
    let at_most_once = arguments.at_most_once.map(|_| quote!(at_most_once: true,));
    let declared = quote!(#local #retries #max_attempts #timeout #at_most_once);
    if declared.is_empty() {
        quote!(#private::ActionOptions::DEFAULT)
    } else {
        quote!(#private::ActionOptions { #declared ..#private::ActionOptions::DEFAULT })
    }
}

/// Implements `Action`. With empty names if they are at fault, so that uses of the type still
/// compile.
pub(crate) fn action(input: &DeriveInput, arguments: &Arguments) -> TokenStream {
    let frestq = frestq(arguments);
    let name = &input.ident;
    let text = |literal: &Option<syn::LitStr>| {
        literal.as_ref().map(syn::LitStr::value).unwrap_or_default()
    };
    let queue = text(&arguments.queue);
    let action = text(&arguments.action);
    let output = match &arguments.output {
        Some(output) => output.to_token_stream(),
        None => quote!(#frestq::__private::Value),
    };
    let mut generics = input.generics.clone();
    if generics.type_params().next().is_some() {
        generics
            .make_where_clause()
            .predicates
            .push(parse_quote!(Self: #frestq::__private::Serialize));
    }
    let (parameters, types, conditions) = generics.split_for_impl();
    let str = quote!(#frestq::__private::str);
    let head = quote_spanned! {generated(name.span())=>
        impl #parameters #frestq::Action for #name #types #conditions
    };
    quote! {
        #[automatically_derived]
        #head {
            const QUEUE: &'static #str = #queue;
            const ACTION: &'static #str = #action;
            type Output = #output;
        }
    }
}

/// The path of frestq.
fn frestq(arguments: &Arguments) -> Path {
    arguments
        .frestq
        .clone()
        .unwrap_or_else(|| parse_quote!(::frestq))
}

/// The path of what generated code may name.
fn private(arguments: &Arguments) -> TokenStream {
    let frestq = frestq(arguments);
    quote!(#frestq::__private)
}

/// The place of the user's own token, marked as generated so that lints leave it alone.
fn generated(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// Whether a type has no name that an expression could repeat.
fn is_opaque(ty: &Type) -> bool {
    fn contains_impl(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            proc_macro2::TokenTree::Ident(ident) => ident == "impl",
            proc_macro2::TokenTree::Group(group) => contains_impl(group.stream()),
            _ => false,
        })
    }
    contains_impl(ty.to_token_stream())
}
