use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Prints `tokens` with the spaces that a person would write, for messages at startup.
///
/// A token stream prints itself with spaces that depend on its origin.
pub(crate) fn text(tokens: TokenStream) -> String {
    let mut out = String::new();
    write(tokens, &mut out);
    out
}

/// The kind of text before the next token.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// A name or a literal: the next name or literal needs a space before it.
    Word,
    /// The end of an operand in brackets: an operator that follows is binary.
    Operand,
    /// The start, or an operator: an operator that follows is a prefix.
    Other,
}

fn write(tokens: TokenStream, out: &mut String) {
    let mut before = Before::Other;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        before = match token {
            TokenTree::Group(group) => {
                write_group(group.delimiter(), group.stream(), out);
                Before::Operand
            }
            TokenTree::Punct(punct) => {
                let mut operator = String::from(punct.as_char());
                let mut joint = punct.spacing() == Spacing::Joint;
                while joint && let Some(TokenTree::Punct(next)) = tokens.peek() {
                    operator.push(next.as_char());
                    joint = next.spacing() == Spacing::Joint;
                    tokens.next();
                }
                write_operator(&operator, before, out)
            }
            word => {
                if before == Before::Word {
                    out.push(' ');
                }
                out.push_str(&word.to_string());
                Before::Word
            }
        };
    }
}

fn write_group(delimiter: Delimiter, stream: TokenStream, out: &mut String) {
    let (open, close) = match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Brace if stream.is_empty() => (" {", "}"),
        Delimiter::Brace => (" { ", " }"),
        Delimiter::None => ("", ""),
    };
    out.push_str(if out.is_empty() { open.trim_start() } else { open });
    write(stream, out);
    out.push_str(close);
}

fn write_operator(operator: &str, before: Before, out: &mut String) -> Before {
    match operator {
        "," | ";" | ":" => {
            out.push_str(operator);
            out.push(' ');
        }
        "=" | "->" | "=>" | "+" | "-" | "*" | "/" | "%" | "|" | "&" | "^" | "&&" | "||" | "==" | "!=" | "<<"
            if before != Before::Other =>
        {
            out.push(' ');
            out.push_str(operator);
            out.push(' ');
        }
        ">" | ">>" | "?" => {
            out.push_str(operator);
            return Before::Operand;
        }
        _ => out.push_str(operator),
    }
    Before::Other
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn tokens_read_as_people_write_them() {
        for written in [
            "JwtGuard",
            "m::JwtGuard<Claims, Vec<u8>>",
            "RequireScope::new(\"profile:read\")",
            "RequireScope::<X>::new(1 + 2, -3, &x)",
            "OpenFrom { unix_seconds: 1_800_000_000 }",
            "guards![a, b]",
            "Payload<[u8; 4]>",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "&'static str",
            "(A, B)",
            "make()?.guard(!flag)",
        ] {
            assert_eq!(text(written.parse().unwrap()), written);
        }
    }
}
