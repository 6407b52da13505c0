//! Generates code: a registration, or an implementation of `Action`. The code uses absolute paths
//! only and leaves the logic to frestq's `__private`.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{DeriveInput, Type, parse_quote, spanned::Spanned};

use crate::{
    ast::{Function, Handler, Implementation, type_text},
    attr::Arguments,
    owner::Owner,
};

/// Registers a handler.
pub(crate) fn registration(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    match handler {
        Handler::Function(function) => register_function(owner, function, arguments),
        Handler::Implementation(block) => register_implementation(block, arguments),
    }
}

/// Checks the types of a handler without registering it, for when its attribute has faults.
pub(crate) fn checks(owner: Owner, handler: &Handler, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    match handler {
        Handler::Function(function) => {
            let cfgs = &function.cfgs;
            let run = run(owner, function, arguments);
            quote! {
                #(#cfgs)*
                const _: #private::Run = #run;
            }
        }
        // rustc checks the rest of the block against the trait.
        Handler::Implementation(block) => {
            let cfgs = &block.cfgs;
            let (ty, constructor) = (&block.ty, constructor(block, arguments));
            quote! {
                #(#cfgs)*
                const _: fn() -> #ty = #constructor;
            }
        }
    }
}

fn register_function(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let kind = match owner {
        Owner::Message => quote!(Message),
        Owner::Task | Owner::Director | Owner::Derive => quote!(Task),
    };
    let cfgs = &function.cfgs;
    let name = function.signature.ident.to_string();
    let address = address(arguments).unwrap_or_else(|| address_of(function, arguments));
    let options = options(&private, arguments);
    let run = run(owner, function, arguments);
    let require = require(owner, function, arguments);
    quote! {
        #(#cfgs)*
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

fn register_implementation(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let private = private(arguments, Span::mixed_site());
    let cfgs = &block.cfgs;
    let ty = &block.ty;
    let name = type_text(ty);
    let constructor = constructor(block, arguments);
    let address = address(arguments).unwrap_or_else(|| address_of_input(block, arguments));
    let options = options(&private, arguments);
    let span = generated_span(ty.span());
    let located = self::private(arguments, span);
    let run = quote_spanned!(span=> |task| #located::execute::<#ty>(&HANDLER, task));
    let handling_errors = block.handles_errors.then(|| {
        let handle = quote_spanned! {span=>
            |task, error| #located::handle_error::<#ty>(&HANDLER, task, error)
        };
        quote!(.handling_errors(#handle))
    });
    let reserving = block.reserves.then(|| {
        let reserve = quote_spanned!(span=> |task| #located::reserve::<#ty>(&HANDLER, task));
        quote!(.reserving(#reserve))
    });
    let cancelling = block.cancels_reservations.then(|| {
        let cancel = quote_spanned! {span=>
            |task| #located::cancel_reservation::<#ty>(&HANDLER, task)
        };
        quote!(.cancelling_reservations(#cancel))
    });
    quote! {
        #(#cfgs)*
        const _: () = {
            static HANDLER: #private::LazyLock<#ty> = #private::LazyLock::new(#constructor);
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
    let cfgs = &block.cfgs;
    let (ty, type_name) = (&block.ty, type_text(&block.ty));
    let constructor = constructor(block, arguments);
    let name = &arguments.name;
    let span = generated_span(ty.span());
    let located = self::private(arguments, span);
    let direct = quote_spanned! {span=>
        |group, after_round| #located::direct::<#ty>(&DIRECTOR, group, after_round)
    };
    quote! {
        #(#cfgs)*
        const _: () = {
            static DIRECTOR: #private::LazyLock<#ty> = #private::LazyLock::new(#constructor);
            #[automatically_derived]
            impl #private::NamedDirector for #ty {
                const NAME: &'static str = #name;
            }
            #private::inventory::submit! {
                #private::Registration::director(#name, #type_name, #direct)
            }
        };
    }
}

/// The function that creates the one value of a handler or director.
fn constructor(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let ty = &block.ty;
    let span = generated_span(ty.span());
    let private = private(arguments, span);
    quote_spanned!(span=> #private::made::<#ty>)
}

/// The closure that runs a function.
fn run(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let task = Ident::new("task", Span::mixed_site());
    let mut names = Vec::new();
    let mut takes = Vec::new();
    for (index, argument) in function.arguments().enumerate() {
        let ty = &argument.ty;
        let name = format_ident!("argument{index}", span = Span::mixed_site());
        let span = generated_span(ty.span());
        let private = private(arguments, span);
        let take = match (index, owner) {
            (0, Owner::Message) => quote_spanned!(span=> message::<#ty>),
            (0, _) => quote_spanned!(span=> Argument::<#ty>::take),
            _ => quote_spanned!(span=> extract::<#ty>),
        };
        takes.push(quote_spanned!(span=> let #name = #private::#take(&#task)?;));
        names.push(name);
    }
    let name = &function.signature.ident;
    let returns = match function.return_type() {
        Some(ty) if !is_opaque(ty) => ty.to_token_stream(),
        _ => quote!(_),
    };
    let span = generated_span(returns.span());
    let located = private(arguments, span);
    let outcome = quote_spanned!(span=> #located::outcome::<#returns>);
    let span = generated_span(name.span());
    let private = private(arguments, span);
    quote_spanned! {span=>
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

/// The closure that lists what a function needs, which is checked at start.
fn require(owner: Owner, function: &Function, arguments: &Arguments) -> TokenStream {
    let requirements = Ident::new("requirements", Span::mixed_site());
    let needs = function
        .arguments()
        .enumerate()
        .filter_map(|(index, argument)| {
            let ty = &argument.ty;
            let span = generated_span(ty.span());
            let private = private(arguments, span);
            let require = match (index, owner) {
                (0, Owner::Message) => return None,
                (0, _) => quote_spanned!(span=> Argument::<#ty>::require),
                _ => quote_spanned!(span=> require::<#ty>),
            };
            Some(quote_spanned!(span=> #private::#require(#requirements);))
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

/// The handler's queue and action, if the attribute names them.
fn address(arguments: &Arguments) -> Option<TokenStream> {
    let (queue, action) = (arguments.queue.as_ref()?, arguments.action.as_ref()?);
    let private = private(arguments, Span::mixed_site());
    Some(quote!(#private::Address { queue: #queue, action: #action }))
}

/// The queue and action that the input of a function names.
fn address_of(function: &Function, arguments: &Arguments) -> TokenStream {
    let input = function.first_type();
    let span = generated_span(input.span());
    let private = private(arguments, span);
    match function.return_type().filter(|ty| !is_opaque(ty)) {
        Some(returns) => quote_spanned!(span=> #private::address_of::<#input, #returns>()),
        // `impl Trait` can't be compared with the declared output.
        None => quote_spanned!(span=> #private::address_of::<#input, _>()),
    }
}

/// The queue and action that the input of an implementation names. The types come from the trait,
/// because the written ones may contain `Self`. Their spans are those of the written types.
fn address_of_input(block: &Implementation, arguments: &Arguments) -> TokenStream {
    let associated_type = |name: &str, written: &Option<Type>| {
        let span = generated_span(written.as_ref().unwrap_or(&block.ty).span());
        let frestq = frestq(arguments, span);
        let ty = with_span(block.ty.to_token_stream(), span);
        let name = Ident::new(name, span);
        quote_spanned!(span=> <#ty as #frestq::Handler>::#name)
    };
    let input = associated_type("Input", &block.input);
    let output = associated_type("Output", &block.output);
    let span = generated_span(block.input.as_ref().unwrap_or(&block.ty).span());
    let private = private(arguments, span);
    quote_spanned!(span=> #private::address_with_output::<#input, #output>())
}

/// The options of the action.
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

/// Implements `Action`. Names that are missing are empty, so that uses of the type still compile.
pub(crate) fn action(input: &DeriveInput, arguments: &Arguments) -> TokenStream {
    let name = &input.ident;
    let frestq = frestq(arguments, generated_span(name.span()));
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
    let head = quote_spanned! {generated_span(name.span())=>
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

/// The path of frestq, for code with the span of a token of the user's. All tokens of an expression
/// need the same span, or rustc points at the whole attribute.
fn frestq(arguments: &Arguments, span: Span) -> TokenStream {
    match &arguments.crate_path {
        None => quote_spanned!(span=> ::frestq),
        Some(path) => with_span(path.to_token_stream(), span),
    }
}

/// The tokens moved to another span. Names still resolve as before.
fn with_span(tokens: TokenStream, span: Span) -> TokenStream {
    let at = |mut token: TokenTree| {
        if let TokenTree::Group(group) = &token {
            let within = with_span(group.stream(), span);
            token = Group::new(group.delimiter(), within).into();
        }
        token.set_span(token.span().located_at(span));
        token
    };
    tokens.into_iter().map(at).collect()
}

/// The path of the module that generated code uses.
fn private(arguments: &Arguments, span: Span) -> TokenStream {
    let frestq = frestq(arguments, span);
    quote_spanned!(span=> #frestq::__private)
}

/// The span of a token of the user's, marked as generated so that lints skip the code.
fn generated_span(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// Whether a type contains `impl`, which an expression can't name.
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
