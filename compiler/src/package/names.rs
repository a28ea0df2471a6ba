//! ONNX names made into identifiers of C, C++ and Rust.
//!
//! ONNX allows any text as a tensor's name (`serving_default_x:0`, `1`, `while`). One identifier is
//! used in all three languages, so it avoids the keywords of each, the reserved forms of C and C++
//! (`__`, a leading `_`) and macros and type names that the standard headers bring.

use std::collections::BTreeSet;

/// Keywords of C23, C++20 and Rust 2024, and names that a parameter must not hide or expand to.
const TAKEN: &str = "
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
    class compl concept const consteval constexpr constinit const_cast continue co_await co_return
    co_yield decltype default delete do double dynamic_cast else enum explicit export extern false
    float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator
    or or_eq private protected public register reinterpret_cast requires restrict return short signed
    sizeof static static_assert static_cast struct switch template this thread_local throw true try
    typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t
    while xor xor_eq
    abstract as async await become box crate dyn final fn gen impl in let loop macro match mod move mut
    override priv pub ref self Self super trait type unsafe unsized use where yield
    None Some Ok Err
    int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t uintptr_t size_t
    NULL EOF NAN INFINITY I PI unix linux errno stdin stdout stderr assert offsetof min max near far main
    complex imaginary signals slots emit foreach interface small
    IN OUT OPTIONAL TRUE FALSE ERROR CONST VOID CALLBACK
";

/// An identifier made from any text: letters, digits and single underscores; never empty, never a
/// keyword, never a macro of the header. Different texts may give the same one; see [`Scope`].
pub fn identifier(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    name.truncate(name.trim_end_matches('_').len());
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("LMC_") {
        name.insert(0, 'x');
    }
    if TAKEN.split_whitespace().any(|taken| taken == name) {
        name.push('_');
    }
    name
}

/// The names used in one scope of generated code.
#[derive(Default)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// A scope in which generated code uses some names itself.
    pub fn new(own: &[&str]) -> Self {
        Scope(own.iter().map(|n| n.to_string()).collect())
    }

    /// An identifier for a text, unlike all that this scope gave before.
    pub fn unique(&mut self, text: &str) -> String {
        let name = identifier(text);
        let numbered = (2..).map(|n| format!("{}_{n}", name.trim_end_matches('_')));
        let free = std::iter::once(name.clone()).chain(numbered).find(|n| !self.0.contains(n));
        let free = free.expect("some number is free");
        self.0.insert(free.clone());
        free
    }
}

/// Text fit for a one-line comment of C and Rust: no control characters, no end of comment.
pub fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace("*/", "* /").replace("/*", "/ *").replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_an_identifier() {
        let cases = [
            ("input_1", "input_1"),
            ("serving_default_x:0", "serving_default_x_0"),
            ("1", "x1"),
            ("", "x"),
            ("日本", "x"),
            ("__a__b__", "a_b"),
            ("while", "while_"),
            ("Self", "Self_"),
            ("LMC_OK", "xLMC_OK"),
            ("a.b/c", "a_b_c"),
            ("onnx::Reshape_12", "onnx_Reshape_12"),
        ];
        for (text, name) in cases {
            assert_eq!(identifier(text), name, "{text}");
        }
    }

    #[test]
    fn a_scope_never_gives_a_name_twice() {
        let mut scope = Scope::new(&["arena"]);
        let names = ["a.b", "a_b", "a b", "arena", "a_b_2", "if", "if"].map(|t| scope.unique(t));
        assert_eq!(names, ["a_b", "a_b_2", "a_b_3", "arena_2", "a_b_2_2", "if_", "if_2"]);
    }

    #[test]
    fn comments_cannot_be_left() {
        assert_eq!(comment("a */ b\n\\"), "a * / b /");
    }
}
