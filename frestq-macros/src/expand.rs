//! The code that is made: a registration, or an implementation of `Action`. It names everything by
//! absolute paths and leaves the logic to frestq's `__private`.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{DeriveInput, Type, parse_quote, spanned::Spanned};

use crate::{
    ast::{Function, Handler, Implementation},
    attr::{Arguments, Owner},
    valid::shown,
};

/// Registers a handler.
pub(crate) fn registration(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    match handler {
        Handler::Function(function) => of_function(owner, function, arguments),
        Handler::Implementation(block) => of_implementation(block, arguments),
    }
}

/// The checks of a handler's types alone, for one whose attribute is at fault.
pub(crate) fn checks(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    match handler {
        Handler::Function(function) => {
            let conditions = &function.conditions;
            let run = run(owner, function, arguments);
            quote! {
                #(#conditions)*
                const _: #private::Run = #run;
            }
        }
        // rustc checks all the rest at the block itself.
        Handler::Implementation(block) => {
            let conditions = &block.conditions;
            let (ty, made) = (&block.ty, made(block, arguments));
            quote! {
                #(#conditions)*
                const _: fn() -> #ty = #made;
            }
        }
    }
}

fn of_function(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let kind = match owner {
        Owner::Message => quote!(Message),
        Owner::Task | Owner::Director | Owner::Derive => quote!(Task),
    };
    let conditions = &function.conditions;
    let name = function.signature.ident.to_string();
    let address = address(arguments).unwrap_or_else(|| address_of(function, arguments));
    let options = options(&private, arguments);
    let run = run(owner, function, arguments);
    let require = require(owner, function, arguments);
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

fn of_implementation(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let conditions = &block.conditions;
    let ty = &block.ty;
    let name = shown(ty);
    let made = made(block, arguments);
    let address = address(arguments).unwrap_or_else(|| address_of_input(block, arguments));
    let options = options(&private, arguments);
    let place = generated(ty.span());
    let located = self::private(arguments, place);
    let run = quote_spanned!(place=> |task| #located::execute::<#ty>(&HANDLER, task));
    let handling_errors = block.handles_errors.then(|| {
        let ask = quote_spanned! {place=>
            |task, error| #located::handle_error::<#ty>(&HANDLER, task, error)
        };
        quote!(.handling_errors(#ask))
    });
    let reserving = block.reserves.then(|| {
        let reserve = quote_spanned!(place=> |task| #located::reserve::<#ty>(&HANDLER, task));
        quote!(.reserving(#reserve))
    });
    let cancelling = block.cancels_reservations.then(|| {
        let cancel = quote_spanned! {place=>
            |task| #located::cancel_reservation::<#ty>(&HANDLER, task)
        };
        quote!(.cancelling_reservations(#cancel))
    });
    quote! {
        #(#conditions)*
        const _: () = {
            static HANDLER: #private::LazyLock<#ty> = #private::LazyLock::new(#made);
            #private::inventory::submit! {
                #private::Registration::new(
                    #private::HandlerKind::Task,
                    #name,
                    #address,
                    #options,
                    #run,
                    |_| {},
                )
                #handling_errors
                #reserving
                #cancelling
            }
        };
    }
}

/// Registers a director under its name.
pub(crate) fn director(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let conditions = &block.conditions;
    let (ty, shown) = (&block.ty, shown(&block.ty));
    let made = made(block, arguments);
    let name = &arguments.name;
    let place = generated(ty.span());
    let located = self::private(arguments, place);
    let direct = quote_spanned! {place=>
        |group, after_round| #located::direct::<#ty>(&DIRECTOR, group, after_round)
    };
    quote! {
        #(#conditions)*
        const _: () = {
            static DIRECTOR: #private::LazyLock<#ty> = #private::LazyLock::new(#made);
            #[automatically_derived]
            impl #private::NamedDirector for #ty {
                const NAME: &'static str = #name;
            }
            #private::inventory::submit! {
                #private::Registration::director(#name, #shown, #direct)
            }
        };
    }
}

/// The function that makes the one value of a type that handles.
fn made(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let ty = &block.ty;
    let place = generated(ty.span());
    let private = private(arguments, place);
    quote_spanned!(place=> #private::made::<#ty>)
}

/// The closure that runs a function.
fn run(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let task = Ident::new("task", Span::mixed_site());
    let mut names = Vec::new();
    let mut takes = Vec::new();
    for (position, argument) in function.arguments().enumerate() {
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
    let name = &function.signature.ident;
    let returns = match function.returns() {
        Some(ty) if !is_opaque(ty) => ty.to_token_stream(),
        _ => quote!(_),
    };
    let place = generated(returns.span());
    let located = private(arguments, place);
    let outcome = quote_spanned!(place=> #located::outcome::<#returns>);
    let place = generated(name.span());
    let private = private(arguments, place);
    quote_spanned! {place=>
        |#task| {
            #[allow(unused_imports)]
            use #private::OtherwiseInput as _;
            #private::future_of_a_handler_must_be_send(async move {
                #(#takes)*
                #outcome(#name(#(#names),*).await)
            })
        }
    }
}

/// The closure that says what a function needs at start.
fn require(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let requirements = Ident::new("requirements", Span::mixed_site());
    let needs = function
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

/// Where the handler's tasks come in, if the attribute says it.
fn address(arguments: &Arguments) -> Option<TokenStream> {
    let (queue, action) = (arguments.queue.as_ref()?, arguments.action.as_ref()?);
    let private = private(arguments, Span::mixed_site());
    Some(quote!(#private::Address { queue: #queue, action: #action }))
}

/// Where they come in if the input of a function says it.
fn address_of(function: &Function, arguments: &Arguments) -> TokenStream {
    let input = function.first();
    let place = generated(input.span());
    let private = private(arguments, place);
    match function.returns().filter(|ty| !is_opaque(ty)) {
        Some(returns) => quote_spanned!(place=> #private::address_of::<#input, #returns>()),
        // An output without a name can't be compared with the declared one.
        None => quote_spanned!(place=> #private::address_of::<#input, _>()),
    }
}

/// Where they come in if the input of an implementation says it. The types are taken from the trait,
/// since what is written may say `Self`, but stand at what is written.
fn address_of_input(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let projected = |name: &str, written: &Option<Type>| {
        let place = generated(written.as_ref().unwrap_or(&block.ty).span());
        let frestq = frestq(arguments, place);
        let ty = located(block.ty.to_token_stream(), place);
        let name = Ident::new(name, place);
        quote_spanned!(place=> <#ty as #frestq::Handler>::#name)
    };
    let input = projected("Input", &block.input);
    let output = projected("Output", &block.output);
    let place = generated(block.input.as_ref().unwrap_or(&block.ty).span());
    let private = private(arguments, place);
    quote_spanned!(place=> #private::address_with_output::<#input, #output>())
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
        Some(path) => located(path.to_token_stream(), place),
    }
}

/// The same tokens at another place, still resolved where they came from.
fn located(tokens: TokenStream, place: Span) -> TokenStream {
    let at = |mut token: TokenTree| {
        if let TokenTree::Group(group) = &token {
            let within = located(group.stream(), place);
            token = Group::new(group.delimiter(), within).into();
        }
        token.set_span(token.span().located_at(place));
        token
    };
    tokens.into_iter().map(at).collect()
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
            TokenTree::Ident(ident) => ident == "impl",
            TokenTree::Group(group) => contains_impl(group.stream()),
            _ => false,
        })
    }
    contains_impl(ty.to_token_stream())
}
