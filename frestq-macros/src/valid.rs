//! The rules that need no types, each with its remedy. The others are bounds in frestq's
//! `__private`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{DeriveInput, FnArg, GenericParam, LitStr, Type};

use crate::{
    ast::{Function, Handler, Implementation},
    attr::{Arguments, Owner},
};

/// What is wrong, collected so that one build shows all of it.
#[derive(Default)]
pub(crate) struct Faults(Option<syn::Error>);

impl Faults {
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// A fault of everything that `tokens` cover.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// A fault of one place.
    pub(crate) fn here(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(syn::Error::new(span, message));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.0
            .map(syn::Error::into_compile_error)
            .unwrap_or_default()
    }
}

/// What `derive(Action)` needs.
pub(crate) fn action(input: &DeriveInput, arguments: &Arguments, faults: &mut Faults) {
    if !input.attrs.iter().any(|a| a.path().is_ident("action")) {
        faults.at(
            &input.ident,
            format!(
                "`derive(Action)` needs to know which action `{}` is the input of: \
                 add #[action(queue = \"...\", action = \"...\")]",
                input.ident
            ),
        );
        return;
    }
    required(Owner::Derive, arguments, faults);
    names(arguments, faults);
}

/// What a handler's attribute needs, given the item.
pub(crate) fn handler(owner: Owner, handler: &Handler, arguments: &Arguments, faults: &mut Faults) {
    match handler {
        _ if owner == Owner::Message || arguments.names_action() => {
            required(owner, arguments, faults);
        }
        Handler::Function(function)
            if function.signature.inputs.is_empty() && !arguments.failed =>
        {
            let name = &function.signature.ident;
            faults.at(
                name,
                format!(
                    "nothing says which action `{name}` serves: name it, as in \
                     #[frestq::task(queue = \"...\", action = \"...\")], or take an input that derives `Action`"
                ),
            );
        }
        _ => {}
    }
    names(arguments, faults);
    if let Some(at_most_once) = arguments.at_most_once {
        let others = [
            ("retries", arguments.retries.as_ref()),
            ("max_attempts", arguments.max_attempts.as_ref()),
        ];
        for (name, _) in others.into_iter().filter(|(_, given)| given.is_some()) {
            faults.here(
                at_most_once,
                format!(
                    "`at_most_once` contradicts `{name}`: a task that may run again runs more than once; \
                     keep one of them"
                ),
            );
        }
    }
    if let Some(count) = arguments.max_attempts.as_ref().filter(|c| c.value == 0) {
        faults.here(
            count.span,
            "`max_attempts` counts every run, the first one too: it is at least 1",
        );
    }
}

/// What a director needs.
pub(crate) fn director(block: &Implementation, arguments: &Arguments, faults: &mut Faults) {
    if !block.generics.params.is_empty() {
        faults.at(
            &block.generics,
            "a director is registered once, so it can't be generic: implement `Director` for a type without parameters",
        );
    }
    match &arguments.name {
        None if !arguments.failed => faults.here(
            arguments.place,
            "`name` is missing: it tells this director from the others, as in \
             #[frestq::director(name = \"...\")]",
        ),
        Some(name) if name.value().is_empty() => {
            faults.at(
                name,
                "`name` is empty: it tells this director from the others",
            );
        }
        _ => {}
    }
}

/// Both names must be there.
fn required(owner: Owner, arguments: &Arguments, faults: &mut Faults) {
    if arguments.failed {
        return; // the missing one may be among what could not be read
    }
    let missing = match (&arguments.queue, &arguments.action) {
        (Some(_), Some(_)) => return,
        (None, Some(_)) => "`queue = \"...\"` is missing",
        (Some(_), None) => "`action = \"...\"` is missing",
        (None, None) => "`queue = \"...\"` and `action = \"...\"` are missing",
    };
    let remedy = match owner {
        Owner::Task => "name both, or neither if the input derives `Action`",
        Owner::Message | Owner::Director | Owner::Derive => "both are required",
    };
    faults.here(
        arguments.place,
        format!("{missing} in `{}`: {remedy}", owner.attribute()),
    );
}

/// Names of queues and actions.
fn names(arguments: &Arguments, faults: &mut Faults) {
    let mut check = |what: &str, name: &Option<LitStr>| {
        let Some(literal) = name else { return };
        let text = literal.value();
        if text.trim().is_empty() {
            faults.at(literal, format!("the name of {what} can't be empty"));
        } else if text.chars().any(char::is_control) {
            faults.at(
                literal,
                format!("the name of {what} can't contain control characters"),
            );
        } else if what == "a queue"
            && text.contains(|c: char| c.is_whitespace() || "/?#%".contains(c))
        {
            faults.at(
                literal,
                "the name of a queue is a part of its URL: it can't contain spaces, `/`, `?`, `#` or `%`",
            );
        }
    };
    check("a queue", &arguments.queue);
    check("an action", &arguments.action);
}

/// What a handler may be. Answers whether checks of its types make sense.
pub(crate) fn item(owner: Owner, handler: &Handler, faults: &mut Faults) -> bool {
    let before = faults.count();
    match handler {
        Handler::Function(function) => signature(owner, function, faults),
        Handler::Implementation(block) => implementation(block, faults),
    }
    faults.count() == before
}

/// What an implementation may be.
fn implementation(block: &Implementation, faults: &mut Faults) {
    if !block.generics.params.is_empty() {
        faults.at(
            &block.generics,
            "a handler is registered once, so it can't be generic: implement `Handler` for a type without parameters",
        );
    }
}

/// What a handler's signature may be.
fn signature(owner: Owner, function: &Function, faults: &mut Faults) {
    let signature = &function.signature;
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        faults.at(
            signature.fn_token,
            format!("a handler is async: write `async fn {name}`"),
        );
    }
    if let Some(token) = signature.unsafety {
        faults.at(token, "a handler is called by frestq, which can't promise what an unsafe function asks for: remove `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        faults.at(abi, "a handler is a plain Rust function: remove `extern`");
    }
    let mut borrows = false;
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => faults.at(
                receiver,
                "a handler is a free function, without `self`: take what it shares with others as `State<T>`",
            ),
            FnArg::Typed(argument) => borrows |= owned(&argument.ty, faults),
        }
    }
    // A lifetime parameter is the other half of a borrow, which has been reported.
    let parameter = |p: &&GenericParam| !borrows || !matches!(p, GenericParam::Lifetime(_));
    if signature.generics.params.iter().any(|p| parameter(&p)) {
        faults.at(
            &signature.generics,
            "a handler is registered once, so it can't be generic: name the types that it takes",
        );
    }
    if function.returns().is_none() {
        faults.at(
            name,
            format!("a handler returns a `Result`, and `{name}` returns nothing: add `-> anyhow::Result<()>`"),
        );
    }
    if owner == Owner::Message && function.first().is_none() {
        faults.at(
            name,
            format!("a message handler takes the message first: `async fn {name}(message: frestq::Message)`"),
        );
    }
}

/// A handler's argument owns its data. Answers whether this one doesn't.
fn owned(ty: &Type, faults: &mut Faults) -> bool {
    let why = "a handler owns its arguments, since it may run long after the message came";
    match ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
                Type::Slice(slice) => format!("Vec<{}>", shown(&slice.elem)),
                other => shown(other),
            };
            faults.at(ty, format!("{why}: take `{owned}`"));
            true
        }
        Type::ImplTrait(_) => {
            faults.at(
                ty,
                "a handler is registered once, so it can't be generic: name a type in place of `impl`",
            );
            false
        }
        _ => match borrow_within(ty.to_token_stream()) {
            Some(token) => {
                faults.at(
                    token,
                    format!("{why}: this type borrows; name one that doesn't"),
                );
                true
            }
            None => false,
        },
    }
}

/// A borrow inside of a type, other than a `'static` one.
fn borrow_within(tokens: TokenStream) -> Option<TokenTree> {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => {
                if let Some(found) = borrow_within(group.stream()) {
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

/// A type as one would write it, as far as joining tokens can do.
pub(crate) fn shown(ty: &Type) -> String {
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
