//! Tokens of the text forms: what their parsers share, errors with line numbers included.
//!
//! `//` starts a comment. Names are identifiers, or quoted where they hold anything else.

use super::affine::size_var;
use super::{Affine, Bound};
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// An identifier, or a quoted string.
    Word { text: String, quoted: bool },
    /// A number without sign, as written.
    Number(String),
    /// One character, or `..`, `..=`, `<=`.
    Sign(&'static str),
}

/// Longer signs first.
const SIGNS: &[&str] = &[
    "..=", "..", "<=", "{", "}", "[", "]", "(", ")", "<", ">", "%", ":", ";", ",", "=", "+", "-", "*", ".",
    "#", "?", "@", "/",
];

/// A position in a text of tokens.
pub struct Cursor {
    tokens: Vec<(Token, usize)>,
    at: usize,
    last_line: usize,
}

fn error_at(line: usize, reason: impl Into<String>) -> Error {
    Error::model(reason).at(format!("line {line}"))
}

/// The bytes of the number at the beginning of a text.
fn number_length(text: &str) -> usize {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(hex) = text.strip_prefix("0x") {
        return 2 + hex.bytes().take_while(u8::is_ascii_hexdigit).count();
    }
    let mut length = digits(text);
    if let Some(fraction) = text[length..].strip_prefix('.') {
        match digits(fraction) {
            0 => return length,
            n => length += 1 + n,
        }
    }
    if let Some(exponent) = text[length..].strip_prefix('e') {
        let sign = usize::from(exponent.starts_with('-'));
        match digits(&exponent[sign..]) {
            0 => {}
            n => length += 1 + sign + n,
        }
    }
    length
}

/// A quoted string at the beginning of a text: what it says, and its length with the quotes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c => value.push(c),
            },
            '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

/// A name as text forms write it.
pub fn write_name(name: &str) -> String {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return name.to_string();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl Cursor {
    /// Splits a text; an error at a character that begins no token.
    pub fn new(text: &str) -> Result<Cursor> {
        let mut tokens = Vec::new();
        let (mut rest, mut line) = (text, 1);
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '\n' => {
                    line += 1;
                    1
                }
                _ if c.is_whitespace() => c.len_utf8(),
                _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '"' => {
                    let (text, length) =
                        quoted(rest).ok_or_else(|| error_at(line, "a quote is not closed"))?;
                    tokens.push((Token::Word { text, quoted: true }, line));
                    length
                }
                _ if c.is_ascii_digit() => {
                    let length = number_length(rest);
                    tokens.push((Token::Number(rest[..length].to_string()), line));
                    length
                }
                _ if c.is_ascii_alphabetic() || c == '_' => {
                    let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
                    tokens.push((Token::Word { text: rest[..length].to_string(), quoted: false }, line));
                    length
                }
                _ => {
                    let sign = SIGNS.iter().find(|s| rest.starts_with(**s));
                    let sign = sign.ok_or_else(|| error_at(line, format!("unexpected '{c}'")))?;
                    tokens.push((Token::Sign(sign), line));
                    sign.len()
                }
            };
            rest = &rest[length..];
        }
        Ok(Cursor { tokens, at: 0, last_line: line })
    }

    /// The line of the next token, from 1.
    pub fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(self.last_line, |t| t.1)
    }

    /// An error about the token taken last.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        let last = self.at.saturating_sub(1);
        error_at(self.tokens.get(last).map_or(self.last_line, |t| t.1), reason)
    }

    /// An error that says what should stand at the next token.
    pub fn expected(&self, what: &str) -> Error {
        let found = match self.tokens.get(self.at) {
            Some((Token::Word { text, .. } | Token::Number(text), _)) => format!("'{text}'"),
            Some((Token::Sign(sign), _)) => format!("'{sign}'"),
            None => "the end".to_string(),
        };
        error_at(self.line(), format!("expected {what}, found {found}"))
    }

    /// True at the end of the text.
    pub fn is_end(&self) -> bool {
        self.at == self.tokens.len()
    }

    /// An error where more follows.
    pub fn end(&self) -> Result<()> {
        if self.is_end() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// Whether the next token is this sign or unquoted word.
    pub fn is(&self, what: &str) -> bool {
        match self.tokens.get(self.at) {
            Some((Token::Sign(sign), _)) => *sign == what,
            Some((Token::Word { text, quoted: false }, _)) => text == what,
            _ => false,
        }
    }

    /// Takes a sign or word if it is next.
    pub fn eat(&mut self, what: &str) -> bool {
        let is = self.is(what);
        self.at += usize::from(is);
        is
    }

    /// Takes a sign or word; an error where something else is next.
    pub fn expect(&mut self, what: &str) -> Result<()> {
        if self.eat(what) { Ok(()) } else { Err(self.expected(&format!("'{what}'"))) }
    }

    /// The unquoted word that is next.
    pub fn peek_name(&self) -> Option<&str> {
        match self.tokens.get(self.at) {
            Some((Token::Word { text, quoted: false }, _)) => Some(text),
            _ => None,
        }
    }

    /// Takes a name, quoted or not; `what` is for the error.
    pub fn name(&mut self, what: &str) -> Result<String> {
        match self.tokens.get(self.at) {
            Some((Token::Word { text, .. }, _)) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Takes a quoted string if it is next.
    pub fn string(&mut self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some((Token::Word { text, quoted: true }, _)) => {
                self.at += 1;
                Some(text.clone())
            }
            _ => None,
        }
    }

    /// Takes `NAME first` if that is next and `second` follows it; gives the name.
    pub fn before(&mut self, first: &str, second: &str) -> Option<String> {
        let name = match self.tokens.get(self.at) {
            Some((Token::Word { text, .. }, _)) => text.clone(),
            _ => return None,
        };
        let start = self.at;
        self.at += 1;
        if self.eat(first) && self.is(second) {
            return Some(name);
        }
        self.at = start;
        None
    }

    /// Takes a number as written, with its sign; `inf` and `nan` are numbers.
    pub fn number(&mut self) -> Result<String> {
        let sign = if self.eat("-") { "-" } else { "" };
        let text = match self.tokens.get(self.at) {
            Some((Token::Number(text), _)) => text.clone(),
            Some((Token::Word { text, quoted: false }, _)) if text == "inf" || text == "nan" => text.clone(),
            _ => return Err(self.expected("a number")),
        };
        self.at += 1;
        Ok(format!("{sign}{text}"))
    }

    /// Takes an integer that fits the type.
    pub fn int<T: std::str::FromStr>(&mut self) -> Result<T> {
        let text = self.number()?;
        text.parse().map_err(|_| self.error(format!("'{text}' is not an integer that fits here")))
    }

    /// Takes an affine form, `2*oh + kh - 1`; `var` gives the number of a variable's name.
    pub fn affine(&mut self, var: &dyn Fn(&str) -> Option<u32>) -> Result<Affine> {
        let mut form = Affine::default();
        let mut sign = if self.eat("-") { -1 } else { 1 };
        loop {
            let factor = match self.tokens.get(self.at) {
                Some((Token::Number(_), _)) => {
                    let number: i64 = self.int()?;
                    if !self.eat("*") {
                        form.base = form.base.wrapping_add(sign * number);
                        None
                    } else {
                        Some(number)
                    }
                }
                _ => Some(1),
            };
            if let Some(factor) = factor {
                let number = if self.eat("?") { self.size()? } else { self.variable(var)? };
                form.add_term(number, sign * factor);
            }
            sign = match () {
                _ if self.eat("+") => 1,
                _ if self.eat("-") => -1,
                _ => return Ok(form),
            };
        }
    }

    fn variable(&mut self, var: &dyn Fn(&str) -> Option<u32>) -> Result<u32> {
        let name = self.name("a variable")?;
        var(&name).ok_or_else(|| self.error(format!("no variable '{name}'")))
    }

    /// Takes a size behind its question mark: number and bound, `0:128`.
    fn size(&mut self) -> Result<u32> {
        let number = self.int()?;
        self.expect(":")?;
        let max = self.int()?;
        size_var(number, max).ok_or_else(|| self.error("no such size"))
    }

    /// Takes a loop bound: one affine form, or several as `max(a, b)` with the given word.
    pub fn bound(&mut self, word: &str, var: &dyn Fn(&str) -> Option<u32>) -> Result<Bound> {
        if !self.eat(word) {
            return Ok(Bound(vec![self.affine(var)?]));
        }
        self.expect("(")?;
        let mut forms = vec![self.affine(var)?];
        while self.eat(",") {
            forms.push(self.affine(var)?);
        }
        self.expect(")")?;
        Ok(Bound(forms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_forms_round_trip() {
        let names = ["oh", "kh"];
        let var = |n: &str| names.iter().position(|m| *m == n).map(|i| i as u32);
        for text in ["0", "-7", "oh", "-oh", "2*oh + kh - 1", "-3*oh - kh + 12", "oh + ?3:128 - 1"] {
            let mut cursor = Cursor::new(text).expect("tokens");
            let form = cursor.affine(&var).expect("a form");
            assert_eq!(form.display(|v| names[v as usize].to_string()), text);
        }
    }

    #[test]
    fn numbers_end_before_ranges() {
        let mut cursor = Cursor::new("0..1.5e-3 0x1f").expect("tokens");
        assert_eq!(cursor.number().expect("a number"), "0");
        assert!(cursor.eat(".."));
        assert_eq!(cursor.number().expect("a number"), "1.5e-3");
        assert_eq!(cursor.number().expect("a number"), "0x1f");
        assert!(cursor.is_end());
    }

    #[test]
    fn errors_name_the_line() {
        let cursor = Cursor::new("a\n// b\nc").map(|mut c| {
            c.expect("a").expect("a word");
            c.expected("'d'").to_string()
        });
        assert_eq!(cursor.expect("tokens"), "line 3: expected 'd', found 'c'");
    }
}
