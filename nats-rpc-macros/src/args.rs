//! The arguments in the parentheses of each attribute.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, Ident, LitInt, LitStr, Path, Result, Token, Type};

use crate::errors::Errors;
use crate::item::{Args, Written};
use crate::pattern::Pattern;
use crate::suggest::closest;
use crate::text::text;

/// The options of a pattern attribute; absent ones keep their defaults.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) queue: Option<Queue>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) run_to_completion: bool,
    pub(crate) krate: Option<Path>,
}

pub(crate) enum Queue {
    Named(String),
    None,
}

const OPTIONS: [&str; 5] = ["queue", "timeout_ms", "concurrency", "run_to_completion", "crate"];

/// One argument of `use_guards`.
pub(crate) struct Guard {
    /// The text as written, for messages at startup.
    pub(crate) text: String,
    pub(crate) source: GuardSource,
}

pub(crate) enum GuardSource {
    /// A type, whose instance was provided to the service.
    Provided(Type),
    /// A value that is built at startup.
    Built(Expr),
}

/// Parses `"users.{id}.get", queue = "readers", …`.
pub(crate) fn pattern(written: &Written, errors: &mut Errors) -> (Option<Pattern>, Options) {
    let mut options = Options::default();
    let name = written.name.as_str();
    let Some(args) = list(written, "the pattern stands in parentheses: `(\"users.get\")`", errors) else {
        return (None, options);
    };
    if args.is_empty() {
        errors.push(written.error(format!("this needs a pattern: `#[{name}(\"users.get\")]`")));
        return (None, options);
    }
    let parse = |input: ParseStream<'_>| {
        let pattern = errors.take(input.parse());
        if pattern.is_none() {
            skip_to_comma(input);
        }
        let mut given = Vec::new();
        while !input.is_empty() {
            if let Err(error) = next(input).and_then(|()| option(input, name, &mut given, &mut options)) {
                errors.push(error);
                skip_to_comma(input);
            }
        }
        Ok(pattern)
    };
    // The closure reads to the end and keeps its errors.
    let pattern = parse.parse2(args.clone()).unwrap_or_default();
    (pattern, options)
}

/// Parses `JwtGuard, RequireScope::new("profile:read")`.
pub(crate) fn guards(written: &Written, errors: &mut Errors) -> Vec<Guard> {
    let Some(args) = list(written, "guards stand in parentheses: `(JwtGuard)`", errors) else { return Vec::new() };
    if args.is_empty() {
        errors.push(written.error("this names no guard: write `#[use_guards(JwtGuard)]`, or remove it"));
    }
    let parse = |input: ParseStream<'_>| {
        let mut guards = vec![];
        while !input.is_empty() {
            guards.push(guard(input)?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(guards)
    };
    errors.take(parse.parse2(args.clone())).unwrap_or_default()
}

/// Rejects arguments of `#[public]`.
pub(crate) fn public(written: &Written, errors: &mut Errors) {
    let bare = matches!(&written.args, Args::List(args) if args.is_empty());
    if !bare {
        errors.push(written.error("`public` stands alone: write `#[public]`"));
    }
}

fn list<'a>(written: &'a Written, message: &str, errors: &mut Errors) -> Option<&'a TokenStream> {
    match &written.args {
        Args::List(args) => Some(args),
        Args::Value => {
            errors.push(written.error(message));
            None
        }
    }
}

fn next(input: ParseStream<'_>) -> Result<()> {
    input.parse::<Token![,]>().map(drop).map_err(|error| Error::new(error.span(), "expected `,` and an option"))
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // Any token can be parsed, as long as there is one.
        let _: Result<TokenTree> = input.parse();
    }
}

fn option(input: ParseStream<'_>, attribute: &str, given: &mut Vec<String>, options: &mut Options) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    if input.peek(LitStr) || input.peek(LitInt) {
        let second: TokenTree = input.parse()?;
        let message = format!("one pattern for each attribute: write a second `#[{attribute}({second})]`");
        return Err(Error::new(second.span(), message));
    }
    let name = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), expected_option()))?;
    let option = name.to_string();
    if !OPTIONS.contains(&option.as_str()) {
        let guess = closest(&option, &OPTIONS).map(|known| format!(", did you mean `{known}`?"));
        let guess = guess.unwrap_or_else(|| format!(": {}", expected_option()));
        return Err(Error::new(name.span(), format!("unknown option `{option}`{guess}")));
    }
    if given.contains(&option) {
        return Err(Error::new(name.span(), format!("`{option}` is given twice: remove one")));
    }
    match option.as_str() {
        "queue" => options.queue = Some(queue(&name, input)?),
        "timeout_ms" => options.timeout_ms = Some(positive(&name, "500", "whole number of milliseconds", input)?),
        "concurrency" => options.concurrency = Some(positive(&name, "8", "whole number of requests", input)?),
        "run_to_completion" => match input.peek(Token![=]) {
            true => return Err(Error::new(name.span(), "`run_to_completion` stands alone: remove its value")),
            false => options.run_to_completion = true,
        },
        _ => options.krate = Some(krate(&name, input)?),
    }
    given.push(option);
    if input.is_empty() || input.peek(Token![,]) { Ok(()) } else { Err(input.error("expected `,`")) }
}

fn expected_option() -> String {
    format!("the options are `{}`", OPTIONS.join("`, `"))
}

/// Parses the `=` after `name`; the error shows the syntax of `name`.
fn equals(name: &Ident, example: &str, input: ParseStream<'_>) -> Result<()> {
    let missing = |_| Error::new(name.span(), format!("`{name}` needs a value: `{name} = {example}`"));
    input.parse::<Token![=]>().map(drop).map_err(missing)
}

/// Parses a value after `=`; an invalid value gets `message`.
fn value<T: syn::parse::Parse>(input: ParseStream<'_>, message: impl Fn() -> String) -> Result<T> {
    let fork = input.fork();
    input.parse().map_err(|error| match fork.parse::<Expr>() {
        Ok(expr) => Error::new_spanned(expr, message()),
        Err(_) => Error::new(error.span(), message()),
    })
}

fn queue(name: &Ident, input: ParseStream<'_>) -> Result<Queue> {
    equals(name, "\"readers\"", input)?;
    if input.peek(Ident) && input.fork().parse::<Ident>()? == "none" {
        return input.parse::<Ident>().map(|_| Queue::None);
    }
    let literal: LitStr = value(input, || "a queue group is a name in quotes, or `none` without".to_owned())?;
    let group = literal.value();
    if group.is_empty() || group.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let message = "a queue group is a name without white space; for no group write `queue = none`";
        return Err(Error::new(literal.span(), message));
    }
    Ok(Queue::Named(group))
}

fn positive<T>(name: &Ident, example: &str, what: &str, input: ParseStream<'_>) -> Result<T>
where
    T: TryFrom<u64>,
{
    equals(name, example, input)?;
    let message = || format!("`{name}` is a {what} above 0, such as `{name} = {example}`");
    let literal: LitInt = value(input, message)?;
    let number = literal.base10_parse::<u64>().ok().filter(|number| *number > 0 && literal.suffix().is_empty());
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Error::new(literal.span(), message()))
}

fn krate(name: &Ident, input: ParseStream<'_>) -> Result<Path> {
    equals(name, "\"path::to::nats_rpc\"", input)?;
    krate_path(input)
}

/// Parses the path in `crate = "path"`, which the derive accepts as well.
pub(crate) fn krate_path(input: ParseStream<'_>) -> Result<Path> {
    let message = || "the crate is a path in quotes, such as `crate = \"::nats_rpc\"`".to_owned();
    let literal: LitStr = value(input, message)?;
    literal.parse_with(Path::parse_mod_style).map_err(|_| Error::new(literal.span(), message()))
}

fn guard(input: ParseStream<'_>) -> Result<Guard> {
    let ahead = input.fork();
    let path = matches!(ahead.parse(), Ok(Type::Path(_))) && (ahead.is_empty() || ahead.peek(Token![,]));
    let (written, source) = if path {
        let guard: Type = input.parse()?;
        (guard.to_token_stream(), GuardSource::Provided(guard))
    } else {
        let guard: Expr = input.parse()?;
        let written = guard.to_token_stream();
        let bare = if let Expr::Paren(paren) = guard { *paren.expr } else { guard };
        (written, GuardSource::Built(bare))
    };
    Ok(Guard { text: text(written), source })
}
