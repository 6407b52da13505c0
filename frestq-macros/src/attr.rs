//! Parses the arguments of an attribute.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    DeriveInput, Ident, LitStr, Meta, Path, Token, Type,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use crate::{
    faults::Faults,
    owner::Owner,
    value::{self, Count},
};

/// The arguments that were given.
pub(crate) struct Arguments {
    /// The span of the whole attribute.
    pub(crate) span: Span,
    /// An argument failed to parse. It may be one of those that seem to be missing.
    pub(crate) incomplete: bool,
    pub(crate) name: Option<LitStr>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) action: Option<LitStr>,
    pub(crate) output: Option<Type>,
    /// The path of frestq, if it isn't `::frestq`.
    pub(crate) crate_path: Option<Path>,
    pub(crate) local: Option<Span>,
    pub(crate) at_most_once: Option<Span>,
    pub(crate) retries: Option<Count>,
    pub(crate) max_attempts: Option<Count>,
    /// In milliseconds.
    pub(crate) timeout: Option<u64>,
    /// The names so far, to find repetitions.
    seen: Vec<String>,
}

/// Parses the text between the parentheses of an attribute macro.
pub(crate) fn of_attribute(owner: Owner, tokens: TokenStream, faults: &mut Faults) -> Arguments {
    let mut arguments = Arguments::new(Span::call_site());
    arguments.parse(owner, tokens, faults);
    arguments
}

/// Parses the `#[action(...)]` attributes of a derive.
pub(crate) fn of_derive(input: &DeriveInput, faults: &mut Faults) -> Arguments {
    let mut arguments = Arguments::new(input.ident.span());
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("action")) {
        if let Some(name) = attribute.path().get_ident() {
            arguments.span = name.span();
        }
        match &attribute.meta {
            Meta::List(list) => arguments.parse(Owner::Derive, list.tokens.clone(), faults),
            Meta::Path(_) => {}
            Meta::NameValue(_) => {
                arguments.incomplete = true;
                faults.at(
                    &attribute.meta,
                    "`#[action]` takes its arguments in parentheses: \
                     write #[action(queue = \"...\", action = \"...\")]",
                );
            }
        }
    }
    arguments
}

impl Arguments {
    fn new(span: Span) -> Self {
        Self {
            span,
            incomplete: false,
            name: None,
            queue: None,
            action: None,
            output: None,
            crate_path: None,
            local: None,
            at_most_once: None,
            retries: None,
            max_attempts: None,
            timeout: None,
            seen: Vec::new(),
        }
    }

    /// Whether the attribute itself names an action.
    pub(crate) fn names_action(&self) -> bool {
        self.queue.is_some() || self.action.is_some()
    }

    /// Parses all arguments. A fault in one doesn't stop the parsing of the next.
    fn parse(&mut self, owner: Owner, tokens: TokenStream, faults: &mut Faults) {
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = self.parse_argument(owner, input) {
                    self.incomplete = true;
                    faults.push(error);
                    skip_to_comma(input);
                }
                if input.parse::<Option<Token![,]>>()?.is_none() && !input.is_empty() {
                    self.incomplete = true;
                    faults.push(input.error("commas separate arguments: add a comma before this"));
                    if !input.peek(Ident::peek_any) {
                        skip_to_comma(input);
                        input.parse::<Option<Token![,]>>()?;
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(tokens) {
            self.incomplete = true;
            faults.push(error);
        }
    }

    fn parse_argument(&mut self, owner: Owner, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!(
                "`{}` takes named arguments only: write `name = value`\n{}",
                owner.attribute(),
                owner.supported_arguments()
            )));
        }
        let name = input.call(Ident::parse_any)?;
        let text = name.unraw().to_string();
        if !owner.arguments().contains(&text.as_str()) {
            return Err(unknown(owner, &name, &text));
        }
        let repeated = self.seen.contains(&text);
        match text.as_str() {
            "name" => self.name = Some(value::string(&name, input)?),
            "queue" => self.queue = Some(value::string(&name, input)?),
            "action" => self.action = Some(value::string(&name, input)?),
            "retries" => self.retries = Some(value::count(&name, input)?),
            "max_attempts" => self.max_attempts = Some(value::count(&name, input)?),
            "timeout" => self.timeout = Some(value::timeout(&name, input)?),
            "local" => self.local = Some(value::flag(&name, input)?),
            "at_most_once" => self.at_most_once = Some(value::flag(&name, input)?),
            "output" => self.output = Some(value::ty(&name, input)?),
            _ => self.crate_path = Some(value::path(&name, input)?),
        }
        if repeated {
            return Err(syn::Error::new_spanned(
                name,
                format!("`{text}` is given twice: remove one of the two"),
            ));
        }
        self.seen.push(text);
        Ok(())
    }
}

/// The error for an argument that the attribute doesn't take.
fn unknown(owner: Owner, name: &Ident, text: &str) -> syn::Error {
    let nearest = owner
        .arguments()
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, text), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let suggestion = nearest.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    });
    syn::Error::new_spanned(
        name,
        format!(
            "`{}` has no argument `{text}`{suggestion}\n{}",
            owner.attribute(),
            owner.supported_arguments()
        ),
    )
}

/// Skips tokens up to the next comma or the end.
fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::{ToTokens, quote};

    use super::*;

    fn parse(owner: Owner, tokens: TokenStream) -> (Arguments, String) {
        let mut faults = Faults::default();
        let arguments = of_attribute(owner, tokens, &mut faults);
        (arguments, faults.into_compile_errors().to_string())
    }

    fn text(path: Option<Path>) -> String {
        path.to_token_stream().to_string()
    }

    #[test]
    fn every_argument_is_parsed() {
        let (arguments, faults) = parse(
            Owner::Task,
            quote!(
                queue = "q",
                action = "a",
                local,
                retries = 3,
                max_attempts = 5,
                timeout = "1s",
                crate = a::b,
            ),
        );
        assert_eq!(faults, "");
        assert_eq!(arguments.queue.unwrap().value(), "q");
        assert_eq!(arguments.action.unwrap().value(), "a");
        assert!(arguments.local.is_some());
        assert!(arguments.at_most_once.is_none());
        assert_eq!(arguments.retries.unwrap().value, 3);
        assert_eq!(arguments.max_attempts.unwrap().value, 5);
        assert_eq!(arguments.timeout, Some(1_000));
        assert_eq!(text(arguments.crate_path), "a :: b");
    }

    #[test]
    fn the_path_of_the_crate_may_be_a_string() {
        let (arguments, faults) = parse(Owner::Message, quote!(crate = "::renamed"));
        assert_eq!(faults, "");
        assert_eq!(text(arguments.crate_path), ":: renamed");
    }

    #[test]
    fn an_output_type_may_contain_commas() {
        let (arguments, faults) = parse(
            Owner::Derive,
            quote!(output = HashMap<String, (u8, u8)>, queue = "q"),
        );
        assert_eq!(faults, "");
        assert!(arguments.output.is_some() && arguments.queue.is_some());
    }

    #[test]
    fn parsing_continues_after_a_fault() {
        let (arguments, faults) = parse(
            Owner::Task,
            quote!(que = "q", retries = "x", local = true, action = "a" timeout = "1s"),
        );
        assert_eq!(faults.matches("compile_error").count(), 4, "{faults}");
        assert!(arguments.action.is_some() && arguments.timeout.is_some());
    }
}
