//! The arguments of the attributes.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    DeriveInput, Ident, Lit, LitStr, Meta, Path, Token, Type,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use crate::valid::Faults;

/// Whose arguments they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Task,
    Message,
    Director,
    Derive,
}

impl Owner {
    /// As the user writes it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Owner::Task => "#[frestq::task]",
            Owner::Message => "#[frestq::message]",
            Owner::Director => "#[frestq::director]",
            Owner::Derive => "#[action]",
        }
    }

    /// What it goes on, for one that stands elsewhere.
    pub(crate) fn belongs(self) -> String {
        let items = match self {
            Owner::Task => "an async function or on `impl Handler for ...`",
            Owner::Message => "an async function",
            Owner::Director => "`impl Director for ...`",
            Owner::Derive => "a type",
        };
        format!("`{}` goes on {items}: {}", self.attribute(), self.example())
    }

    /// What stands under it.
    fn example(self) -> &'static str {
        match self {
            Owner::Task => "`async fn name(input: Input) -> anyhow::Result<Output>`",
            Owner::Message => "`async fn name(message: frestq::Message) -> anyhow::Result<()>`",
            Owner::Director => "`impl Director for Conductor { ... }`",
            Owner::Derive => "`struct Input { ... }`",
        }
    }

    fn supported(self) -> &'static [&'static str] {
        match self {
            Owner::Task => &[
                "queue",
                "action",
                "local",
                "retries",
                "max_attempts",
                "timeout",
                "at_most_once",
                "crate",
            ],
            Owner::Message => &["queue", "action", "crate"],
            Owner::Director => &["name", "crate"],
            Owner::Derive => &["queue", "action", "output", "crate"],
        }
    }

    /// "`queue`, `action` and `crate`".
    fn listed(self) -> String {
        let quoted: Vec<_> = self.supported().iter().map(|n| format!("`{n}`")).collect();
        match quoted.split_last() {
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

/// A number, with its place for the rules that follow.
pub(crate) struct Count {
    pub(crate) value: u32,
    pub(crate) span: Span,
}

/// What was given.
pub(crate) struct Arguments {
    /// The attribute as a whole.
    pub(crate) place: Span,
    /// Something could not be read, so nothing counts as missing.
    pub(crate) failed: bool,
    pub(crate) name: Option<LitStr>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) action: Option<LitStr>,
    pub(crate) output: Option<Type>,
    pub(crate) frestq: Option<Path>,
    pub(crate) local: Option<Span>,
    pub(crate) at_most_once: Option<Span>,
    pub(crate) retries: Option<Count>,
    pub(crate) max_attempts: Option<Count>,
    /// In milliseconds.
    pub(crate) timeout: Option<u64>,
    given: Vec<String>,
}

/// Reads what stands in the parentheses of an attribute macro.
pub(crate) fn of_attribute(owner: Owner, tokens: TokenStream, faults: &mut Faults) -> Arguments {
    let mut arguments = Arguments::new(Span::call_site());
    arguments.read(owner, tokens, faults);
    arguments
}

/// Reads the `#[action(...)]` of a derive.
pub(crate) fn of_derive(input: &DeriveInput, faults: &mut Faults) -> Arguments {
    let mut arguments = Arguments::new(input.ident.span());
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("action")) {
        if let Some(name) = attribute.path().get_ident() {
            arguments.place = name.span();
        }
        match &attribute.meta {
            Meta::List(list) => arguments.read(Owner::Derive, list.tokens.clone(), faults),
            Meta::Path(_) => {}
            Meta::NameValue(_) => {
                arguments.failed = true;
                faults.at(
                    &attribute.meta,
                    "the arguments of `#[action]` stand in parentheses: #[action(queue = \"...\", action = \"...\")]",
                );
            }
        }
    }
    arguments
}

impl Arguments {
    fn new(place: Span) -> Self {
        Self {
            place,
            failed: false,
            name: None,
            queue: None,
            action: None,
            output: None,
            frestq: None,
            local: None,
            at_most_once: None,
            retries: None,
            max_attempts: None,
            timeout: None,
            given: Vec::new(),
        }
    }

    /// Whether the attribute itself says which action it is.
    pub(crate) fn names_action(&self) -> bool {
        self.queue.is_some() || self.action.is_some()
    }

    /// Reads one argument after the other; after a fault it goes on with the next one.
    fn read(&mut self, owner: Owner, tokens: TokenStream, faults: &mut Faults) {
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = self.argument(owner, input) {
                    self.failed = true;
                    faults.push(error);
                    skip_to_comma(input);
                }
                if input.parse::<Option<Token![,]>>()?.is_none() && !input.is_empty() {
                    self.failed = true;
                    faults.push(input.error("a comma goes between two arguments"));
                    if !input.peek(Ident::peek_any) {
                        skip_to_comma(input);
                        input.parse::<Option<Token![,]>>()?;
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(tokens) {
            self.failed = true;
            faults.push(error);
        }
    }

    fn argument(&mut self, owner: Owner, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!(
                "`{}` takes arguments by name: {}",
                owner.attribute(),
                owner.listed()
            )));
        }
        let name = input.call(Ident::parse_any)?;
        let text = name.unraw().to_string();
        if !owner.supported().contains(&text.as_str()) {
            return Err(unknown(owner, &name, &text));
        }
        let repeated = self.given.contains(&text);
        match text.as_str() {
            "name" => self.name = Some(string(&name, input, "...")?),
            "queue" => self.queue = Some(string(&name, input, "...")?),
            "action" => self.action = Some(string(&name, input, "...")?),
            "retries" => self.retries = Some(count(&name, input)?),
            "max_attempts" => self.max_attempts = Some(count(&name, input)?),
            "timeout" => self.timeout = Some(time(&string(&name, input, "30s")?)?),
            "local" => self.local = Some(flag(&name, input)?),
            "at_most_once" => self.at_most_once = Some(flag(&name, input)?),
            "output" => {
                value(&name, input, "output = String")?;
                self.output = Some(input.parse()?);
            }
            _ => self.frestq = Some(path(&name, input)?),
        }
        if repeated {
            return Err(syn::Error::new_spanned(
                name,
                format!("`{text}` is given twice: keep one"),
            ));
        }
        self.given.push(text);
        Ok(())
    }
}

fn unknown(owner: Owner, name: &Ident, text: &str) -> syn::Error {
    let nearest = owner
        .supported()
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, text), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let guess = nearest.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    });
    syn::Error::new_spanned(
        name,
        format!(
            "`{}` has no argument `{text}`{guess}\nsupported are {}",
            owner.attribute(),
            owner.listed()
        ),
    )
}

/// Reads up to the value of an argument.
fn value(name: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<()> {
    let equals = input.parse::<Option<Token![=]>>()?.is_some();
    if !equals || input.is_empty() || input.peek(Token![,]) {
        return Err(syn::Error::new_spanned(
            name,
            format!("`{name}` takes a value: {example}"),
        ));
    }
    Ok(())
}

fn string(name: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<LitStr> {
    let example = format!("{name} = \"{example}\"");
    value(name, input, &example)?;
    let place = input.cursor();
    match input.parse::<Lit>() {
        Ok(Lit::Str(literal)) => Ok(literal),
        Ok(other) => Err(syn::Error::new_spanned(
            other,
            format!("`{name}` is a string: {example}"),
        )),
        Err(_) => Err(syn::Error::new(
            place.span(),
            format!("`{name}` is a string literal, since it is read at compile time: {example}"),
        )),
    }
}

fn count(name: &Ident, input: ParseStream<'_>) -> syn::Result<Count> {
    let example = format!("{name} = 3");
    value(name, input, &example)?;
    let place = input.cursor();
    let literal = match input.parse::<Lit>() {
        Ok(Lit::Int(literal)) => literal,
        Ok(other) => {
            return Err(syn::Error::new_spanned(
                other,
                format!("`{name}` is a number: {example}"),
            ));
        }
        Err(_) => {
            return Err(syn::Error::new(
                place.span(),
                format!("`{name}` is a number, not negative and written out: {example}"),
            ));
        }
    };
    let value = literal.base10_parse().map_err(|_| {
        syn::Error::new_spanned(
            &literal,
            format!(
                "`{name}` is a whole number, not negative and at most {}: {example}",
                u32::MAX
            ),
        )
    })?;
    Ok(Count {
        value,
        span: literal.span(),
    })
}

fn flag(name: &Ident, input: ParseStream<'_>) -> syn::Result<Span> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(name.span());
    }
    Err(syn::Error::new_spanned(
        name,
        format!("`{name}` stands alone, without a value: its presence says it all"),
    ))
}

fn path(name: &Ident, input: ParseStream<'_>) -> syn::Result<Path> {
    value(name, input, "crate = other_name")?;
    if input.peek(LitStr) {
        return input.parse::<LitStr>()?.parse();
    }
    input.call(Path::parse_mod_style)
}

/// Reads a duration, in milliseconds.
fn time(literal: &LitStr) -> syn::Result<u64> {
    milliseconds(&literal.value()).map_err(|why| syn::Error::new_spanned(literal, why))
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    if number.is_empty() || scale == 0 {
        return Err(format!(
            "{text:?} is no duration: write a whole number and `ms`, `s`, `m` or `h`, as in \"30s\""
        ));
    }
    let duration = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| format!("{text:?} is more than frestq can count"))?;
    if duration == 0 {
        return Err(
            "a time limit of nothing would end every run: leave `timeout` out for no limit"
                .to_owned(),
        );
    }
    Ok(duration)
}

/// Goes on to the next comma, or the end.
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

    fn read(owner: Owner, tokens: TokenStream) -> (Arguments, String) {
        let mut faults = Faults::default();
        let arguments = of_attribute(owner, tokens, &mut faults);
        (arguments, faults.into_compile_errors().to_string())
    }

    fn shown(path: Option<Path>) -> String {
        path.to_token_stream().to_string()
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("30s"), Ok(30_000));
        assert_eq!(milliseconds("5m"), Ok(300_000));
        assert_eq!(milliseconds("2h"), Ok(7_200_000));
        for wrong in [
            "", "30", "s", "1.5s", "-1s", "1d", "30 s", " 30s", "1h30m", "٣s",
        ] {
            assert!(milliseconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn durations_are_neither_nothing_nor_beyond_counting() {
        assert!(milliseconds("0s").is_err());
        assert!(milliseconds("99999999999999999999s").is_err());
        assert!(milliseconds("18446744073709551615h").is_err());
    }

    #[test]
    fn every_argument_is_read() {
        let (arguments, faults) = read(
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
        assert_eq!(shown(arguments.frestq), "a :: b");
    }

    #[test]
    fn the_path_of_the_crate_may_be_a_string() {
        let (arguments, faults) = read(Owner::Message, quote!(crate = "::renamed"));
        assert_eq!(faults, "");
        assert_eq!(shown(arguments.frestq), ":: renamed");
    }

    #[test]
    fn an_output_may_hold_commas() {
        let (arguments, faults) = read(
            Owner::Derive,
            quote!(output = HashMap<String, (u8, u8)>, queue = "q"),
        );
        assert_eq!(faults, "");
        assert!(arguments.output.is_some() && arguments.queue.is_some());
    }

    #[test]
    fn reading_goes_on_after_a_fault() {
        let (arguments, faults) = read(
            Owner::Task,
            quote!(que = "q", retries = "x", local = true, action = "a" timeout = "1s"),
        );
        assert_eq!(faults.matches("compile_error").count(), 4, "{faults}");
        assert!(arguments.action.is_some() && arguments.timeout.is_some());
    }
}
