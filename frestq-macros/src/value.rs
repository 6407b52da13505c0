//! Parses the value of one argument. Each function starts after the argument's name.

use proc_macro2::Span;
use syn::{Ident, Lit, LitStr, Path, Token, Type, parse::ParseStream};

/// A number and the span to report it at.
pub(crate) struct Count {
    pub(crate) value: u32,
    pub(crate) span: Span,
}

/// Parses `= "..."`.
pub(crate) fn string(name: &Ident, input: ParseStream<'_>) -> syn::Result<LitStr> {
    literal_string(name, input, &format!("{name} = \"...\""))
}

/// Parses `= 3`.
pub(crate) fn count(name: &Ident, input: ParseStream<'_>) -> syn::Result<Count> {
    let example = format!("{name} = 3");
    equals(name, input, &example)?;
    let start = input.cursor();
    let literal = match input.parse::<Lit>() {
        Ok(Lit::Int(literal)) => literal,
        Ok(other) => {
            return Err(syn::Error::new_spanned(
                other,
                format!("`{name}` takes a whole number: write {example}"),
            ));
        }
        Err(_) => {
            return Err(syn::Error::new(
                start.span(),
                format!(
                    "`{name}` takes a number literal, because it is read at compile time: \
                     write {example}"
                ),
            ));
        }
    };
    let value = literal.base10_parse().map_err(|_| {
        syn::Error::new_spanned(
            &literal,
            format!(
                "`{name}` takes a whole number that isn't negative and is at most {}: \
                 write {example}",
                u32::MAX
            ),
        )
    })?;
    Ok(Count {
        value,
        span: literal.span(),
    })
}

/// Parses `= "30s"` into milliseconds.
pub(crate) fn timeout(name: &Ident, input: ParseStream<'_>) -> syn::Result<u64> {
    let literal = literal_string(name, input, &format!("{name} = \"30s\""))?;
    milliseconds(&literal.value()).map_err(|message| syn::Error::new_spanned(literal, message))
}

/// Checks that a flag has no value.
pub(crate) fn flag(name: &Ident, input: ParseStream<'_>) -> syn::Result<Span> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(name.span());
    }
    Err(syn::Error::new_spanned(
        name,
        format!("`{name}` is a flag and takes no value: write `{name}` alone, or remove it"),
    ))
}

/// Parses `= String`.
pub(crate) fn ty(name: &Ident, input: ParseStream<'_>) -> syn::Result<Type> {
    equals(name, input, &format!("{name} = String"))?;
    input.parse()
}

/// Parses `= other_name` or `= "other_name"`.
pub(crate) fn path(name: &Ident, input: ParseStream<'_>) -> syn::Result<Path> {
    equals(name, input, &format!("{name} = other_name"))?;
    if input.peek(LitStr) {
        return input.parse::<LitStr>()?.parse();
    }
    input.call(Path::parse_mod_style)
}

/// Parses the equals sign and checks that a value follows.
fn equals(name: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<()> {
    let equals = input.parse::<Option<Token![=]>>()?.is_some();
    if !equals || input.is_empty() || input.peek(Token![,]) {
        return Err(syn::Error::new_spanned(
            name,
            format!("`{name}` needs a value: write {example}"),
        ));
    }
    Ok(())
}

fn literal_string(name: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<LitStr> {
    equals(name, input, example)?;
    let start = input.cursor();
    match input.parse::<Lit>() {
        Ok(Lit::Str(literal)) => Ok(literal),
        Ok(other) => Err(syn::Error::new_spanned(
            other,
            format!("`{name}` takes a string: write {example}"),
        )),
        Err(_) => Err(syn::Error::new(
            start.span(),
            format!(
                "`{name}` takes a string literal, because it is read at compile time: \
                 write {example}"
            ),
        )),
    }
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
            "{text:?} isn't a duration: write a whole number and a unit (`ms`, `s`, `m` or `h`), \
             as in \"30s\""
        ));
    }
    let duration = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| {
            format!(
                "{text:?} is too long, because at most {} milliseconds fit: write a shorter one",
                u64::MAX
            )
        })?;
    if duration == 0 {
        return Err(
            "a timeout of zero would end every run at once: leave `timeout` out for no limit"
                .to_owned(),
        );
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn durations_of_zero_or_more_than_u64_are_rejected() {
        assert!(milliseconds("0s").is_err());
        assert!(milliseconds("99999999999999999999s").is_err());
        assert!(milliseconds("18446744073709551615h").is_err());
    }
}
