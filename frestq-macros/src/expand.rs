//! The code that is made: a registration, or an implementation of `Action`. It names everything by
//! absolute paths and leaves the logic to frestq's `__private`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{DeriveInput, Type, parse_quote, spanned::Spanned};

use crate::{
    ast::Handler,
    attr::{Arguments, Owner},
};

/// Registers a handler.
pub(crate) fn registration(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let kind = match owner {
        Owner::Message => quote!(Message),
        Owner::Task | Owner::Derive => quote!(Task),
    };
    let conditions = &handler.conditions;
    let name = handler.signature.ident.to_string();
    let address = address(handler, arguments);
    let options = options(&private, arguments);
    let run = run(owner, handler, arguments);
    let require = require(owner, handler, arguments);
    quote! {
        #(#conditions)*
        #private::inventory::submit! {
            #private::Registration::new(
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
    let private = private(arguments, Span::mixed_site());
    let conditions = &handler.conditions;
    let run = run(owner, handler, arguments);
    quote! {
        #(#conditions)*
        const _: #private::Run = #run;
    }
}

/// The closure that runs a handler.
fn run(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let task = Ident::new("task", Span::mixed_site());
    let mut names = Vec::new();
    let mut takes = Vec::new();
    for (position, argument) in handler.arguments().enumerate() {
        let ty = &argument.ty;
        let name = format_ident!("argument{position}", span = Span::mixed_site());
        let place = generated(ty.span());
        let private = private(arguments, place);
        let take = match (position, owner) {
            (0, Owner::Message) => quote_spanned!(place=> message::<#ty>),
            (0, _) => quote_spanned!(place=> Argument::<#ty>::take),
            _ => quote_spanned!(place=> extract::<#ty>),
        };
        takes.push(quote_spanned!(place=> let #name = #private::#take(&#task)?;));
        names.push(name);
    }
    let function = &handler.signature.ident;
    let returns = match handler.returns() {
        Some(ty) if !is_opaque(ty) => ty.to_token_stream(),
        _ => quote!(_),
    };
    let place = generated(returns.span());
    let located = private(arguments, place);
    let outcome = quote_spanned!(place=> #located::outcome::<#returns>);
    let place = generated(function.span());
    let private = private(arguments, place);
    quote_spanned! {place=>
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
fn require(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let requirements = Ident::new("requirements", Span::mixed_site());
    let needs = handler
        .arguments()
        .enumerate()
        .filter_map(|(position, argument)| {
            let ty = &argument.ty;
            let place = generated(ty.span());
            let private = private(arguments, place);
            let require = match (position, owner) {
                (0, Owner::Message) => return None,
                (0, _) => quote_spanned!(place=> Argument::<#ty>::require),
                _ => quote_spanned!(place=> require::<#ty>),
            };
            Some(quote_spanned!(place=> #private::#require(#requirements);))
        });
    let private = private(arguments, Span::mixed_site());
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
fn address(handler: &Handler, arguments: &Arguments) -> TokenStream {
    if let (Some(queue), Some(action)) = (&arguments.queue, &arguments.action) {
        let private = private(arguments, Span::mixed_site());
        return quote!(#private::Address { queue: #queue, action: #action });
    }
    let input = handler.first();
    let place = generated(input.span());
    let private = private(arguments, place);
    match handler.returns().filter(|ty| !is_opaque(ty)) {
        Some(returns) => quote_spanned!(place=> #private::address_of::<#input, #returns>()),
        // An output without a name can't be compared with the declared one.
        None => quote_spanned!(place=> #private::address_of::<#input, _>()),
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
    let name = &input.ident;
    let frestq = frestq(arguments, generated(name.span()));
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
    let head = quote_spanned! {generated(name.span())=>
        impl #parameters #frestq::Action for #name #types #conditions
    };
    quote! {
        #[automatically_derived]
        #head {
            const QUEUE: &'static str = #queue;
            const ACTION: &'static str = #action;
            type Output = #output;
        }
    }
}

/// The path of frestq, for code that stands at a token of the user's: rustc points at the whole
/// attribute if the tokens of an expression come from different places.
fn frestq(arguments: &Arguments, place: Span) -> TokenStream {
    match &arguments.frestq {
        None => quote_spanned!(place=> ::frestq),
        Some(path) => path
            .to_token_stream()
            .into_iter()
            .map(|mut token| {
                token.set_span(token.span().located_at(place));
                token
            })
            .collect(),
    }
}

/// The path of what generated code may name.
fn private(arguments: &Arguments, place: Span) -> TokenStream {
    let frestq = frestq(arguments, place);
    quote_spanned!(place=> #frestq::__private)
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
