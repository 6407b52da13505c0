//! The rules that need no types, each with its reason and its remedy. The rules that need types
//! are bounds in frestq's `__private`.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{DeriveInput, FnArg, GenericParam, LitStr, Type};

use crate::{
    ast::{Function, Handler, Implementation, type_text},
    attr::Arguments,
    faults::Faults,
    owner::Owner,
};

/// Checks a `derive(Action)`.
pub(crate) fn action(input: &DeriveInput, arguments: &Arguments, faults: &mut Faults) {
    if !input.attrs.iter().any(|a| a.path().is_ident("action")) {
        faults.at(
            &input.ident,
            format!(
                "`derive(Action)` needs the queue and the action that take `{}` as input: \
                 add #[action(queue = \"...\", action = \"...\")]",
                input.ident
            ),
        );
        return;
    }
    names_present(Owner::Derive, arguments, faults);
    names_valid(arguments, faults);
}

/// Checks the arguments of a handler's attribute.
pub(crate) fn handler(owner: Owner, handler: &Handler, arguments: &Arguments, faults: &mut Faults) {
    match handler {
        _ if owner == Owner::Message || arguments.names_action() => {
            names_present(owner, arguments, faults);
        }
        Handler::Function(function)
            if function.signature.inputs.is_empty() && !arguments.incomplete =>
        {
            let name = &function.signature.ident;
            faults.at(
                name,
                format!(
                    "nothing names the action that `{name}` handles: \
                     write #[frestq::task(queue = \"...\", action = \"...\")], \
                     or take an input that derives `Action`"
                ),
            );
        }
        _ => {}
    }
    names_valid(arguments, faults);
    attempts(arguments, faults);
}

/// Checks a director and the arguments of its attribute.
pub(crate) fn director(block: &Implementation, arguments: &Arguments, faults: &mut Faults) {
    if !block.generics.params.is_empty() {
        faults.at(
            &block.generics,
            "a director can't be generic, because it is registered once: \
             implement `Director` for a type without parameters",
        );
    }
    match &arguments.name {
        None if !arguments.incomplete => faults.at_span(
            arguments.span,
            "`name` is missing: the database and the log identify a director by its name; \
             write #[frestq::director(name = \"...\")]",
        ),
        Some(name) if name.value().is_empty() => {
            faults.at(
                name,
                "`name` is empty: the database and the log identify a director by its name; \
                 write at least one character",
            );
        }
        _ => {}
    }
}

/// Checks the item of a handler. Returns whether checks of its types make sense.
pub(crate) fn item(owner: Owner, handler: &Handler, faults: &mut Faults) -> bool {
    let before = faults.count();
    match handler {
        Handler::Function(function) => signature(owner, function, faults),
        Handler::Implementation(block) => implementation(block, faults),
    }
    faults.count() == before
}

/// Checks that queue and action are both given.
fn names_present(owner: Owner, arguments: &Arguments, faults: &mut Faults) {
    if arguments.incomplete {
        return; // The missing one may be the one that failed to parse.
    }
    let missing = match (&arguments.queue, &arguments.action) {
        (Some(_), Some(_)) => return,
        (None, Some(_)) => "`queue = \"...\"` is missing",
        (Some(_), None) => "`action = \"...\"` is missing",
        (None, None) => "`queue = \"...\"` and `action = \"...\"` are missing",
    };
    let remedy = match owner {
        Owner::Task => "write both, or neither if the input derives `Action`",
        Owner::Message | Owner::Director | Owner::Derive => "write both",
    };
    faults.at_span(
        arguments.span,
        format!(
            "{missing} in `{}`: queue and action together address a message; {remedy}",
            owner.attribute()
        ),
    );
}

/// Checks the text of queue and action.
fn names_valid(arguments: &Arguments, faults: &mut Faults) {
    if let Some(queue) = &arguments.queue
        && name_valid("queue", queue, faults)
        && queue
            .value()
            .contains(|c: char| c.is_whitespace() || "/?#%".contains(c))
    {
        faults.at(
            queue,
            "a queue's name can't contain spaces, `/`, `?`, `#` or `%`, \
             because it is part of a URL: use `_` or `-` instead",
        );
    }
    if let Some(action) = &arguments.action {
        name_valid("action", action, faults);
    }
}

/// Checks what holds for both kinds of names. Returns whether the name passed.
fn name_valid(argument: &str, literal: &LitStr, faults: &mut Faults) -> bool {
    let text = literal.value();
    if text.trim().is_empty() {
        faults.at(
            literal,
            format!(
                "`{argument}` is empty: queue and action together address a message; \
                 write at least one visible character"
            ),
        );
        return false;
    }
    if text.chars().any(char::is_control) {
        faults.at(
            literal,
            format!(
                "`{argument}` can't contain control characters, because logs show it: remove them"
            ),
        );
        return false;
    }
    true
}

/// Checks how often a task may run.
fn attempts(arguments: &Arguments, faults: &mut Faults) {
    if let Some(at_most_once) = arguments.at_most_once {
        let others = [
            ("retries", arguments.retries.is_some()),
            ("max_attempts", arguments.max_attempts.is_some()),
        ];
        for (name, _) in others.into_iter().filter(|(_, given)| *given) {
            faults.at_span(
                at_most_once,
                format!(
                    "`at_most_once` contradicts `{name}`, because it allows a single run: \
                     remove one of the two"
                ),
            );
        }
    }
    if let Some(count) = arguments.max_attempts.as_ref().filter(|c| c.value == 0) {
        faults.at_span(
            count.span,
            "`max_attempts` is at least 1, because it counts every run including the first: \
             write max_attempts = 1 for a single run",
        );
    }
}

fn implementation(block: &Implementation, faults: &mut Faults) {
    if !block.generics.params.is_empty() {
        faults.at(
            &block.generics,
            "a handler can't be generic, because it is registered once: \
             implement `Handler` for a type without parameters",
        );
    }
}

fn signature(owner: Owner, function: &Function, faults: &mut Faults) {
    let signature = &function.signature;
    let name = &signature.ident;
    qualifiers(function, faults);
    let mut borrows = false;
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => faults.at(
                receiver,
                "a handler can't take `self`, because frestq has no value to call it on: \
                 write a free function, and take shared values as `State<T>`",
            ),
            FnArg::Typed(argument) => borrows |= argument_borrows(&argument.ty, faults),
        }
    }
    // A lifetime parameter belongs to a borrow, which has already been reported.
    let parameter = |p: &&GenericParam| !borrows || !matches!(p, GenericParam::Lifetime(_));
    if signature.generics.params.iter().any(|p| parameter(&p)) {
        faults.at(
            &signature.generics,
            "a handler can't be generic, because it is registered once: \
             replace the type parameters with concrete types",
        );
    }
    if function.return_type().is_none() {
        faults.at(
            name,
            format!(
                "a handler returns a `Result`, because it may fail, and `{name}` returns nothing: \
                 add `-> anyhow::Result<()>`"
            ),
        );
    }
    if owner == Owner::Message && function.first_type().is_none() {
        faults.at(
            name,
            format!(
                "a message handler takes the message as its first argument, \
                 and `{name}` takes nothing: write `async fn {name}(message: frestq::Message)`"
            ),
        );
    }
}

/// Checks the keywords before `fn`.
fn qualifiers(function: &Function, faults: &mut Faults) {
    let signature = &function.signature;
    if signature.asyncness.is_none() {
        faults.at(
            signature.fn_token,
            format!(
                "a handler is async, because frestq awaits it: write `async fn {}`",
                signature.ident
            ),
        );
    }
    if let Some(token) = signature.unsafety {
        faults.at(
            token,
            "a handler can't be unsafe, because frestq calls it and can't meet its conditions: \
             remove `unsafe`",
        );
    }
    if let Some(abi) = &signature.abi {
        faults.at(
            abi,
            "a handler can't be extern, because frestq calls it from Rust: remove `extern`",
        );
    }
}

/// Checks that an argument owns its data. Returns whether it borrows.
fn argument_borrows(ty: &Type, faults: &mut Faults) -> bool {
    let rule = "a handler's arguments own their data, \
                because the task may run long after its message arrived";
    match ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
                Type::Slice(slice) => format!("Vec<{}>", type_text(&slice.elem)),
                other => type_text(other),
            };
            faults.at(ty, format!("{rule}: take `{owned}`"));
            true
        }
        Type::ImplTrait(_) => {
            faults.at(
                ty,
                "a handler can't be generic, because it is registered once: \
                 replace `impl` with a concrete type",
            );
            false
        }
        _ => match find_borrow(ty.to_token_stream()) {
            Some(token) => {
                faults.at(
                    token,
                    format!("{rule}: replace this type, which borrows, with an owned one"),
                );
                true
            }
            None => false,
        },
    }
}

/// Finds a borrow in a type, other than a `'static` one.
fn find_borrow(tokens: TokenStream) -> Option<TokenTree> {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => {
                if let Some(found) = find_borrow(group.stream()) {
                    return Some(found);
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                let lifetime =
                    matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == '\'');
                if !lifetime {
                    return Some(token);
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                let name = tokens.next();
                if !matches!(&name, Some(TokenTree::Ident(ident)) if ident == "static") {
                    return name.or(Some(token));
                }
            }
            _ => {}
        }
    }
    None
}
