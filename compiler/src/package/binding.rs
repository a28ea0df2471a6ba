//! The Rust binding: a module with a typed, safe `run` over the runtime crate.

use super::{Compiled, Param, Strings, What, describe, element, limits, params, title};
use std::fmt::Write;

/// The binding of a model: `pub mod NAME`, for `lmc_runtime::include_model!`.
pub fn binding(c: &Compiled) -> String {
    let name = &c.program.name;
    let params = params(c);
    let [first, second] = title(c);
    let docs: String =
        params.iter().map(|p| format!("    /// * {}\n", code(&describe(p, &params)))).collect();
    format!(
        "\
/// {first}
///
/// {second}
#[allow(non_snake_case, non_camel_case_types, clippy::too_many_arguments)]
pub mod {name} {{
    const _: () = assert!(::lmc_runtime::abi::VERSION == {version}, \"lmc and lmc-runtime differ in version\");

    unsafe extern \"C\" {{
        static {name}_model: ::lmc_runtime::abi::Model;
    }}

    /// Bytes of scratch memory for one inference at a time.
    pub const ARENA_BYTES: usize = {arena};
    /// Bytes of stack that `run` needs at most.
    pub const STACK_BYTES: usize = {stack};
    /// Scratch memory for one inference at a time.
    pub type Arena = ::lmc_runtime::Arena<ARENA_BYTES>;
    const _: () = assert!(Arena::ALIGN >= {align});

{limits}{words}    /// The model, for code that takes any.
    pub fn model() -> ::lmc_runtime::Model<'static> {{
        // SAFETY: lmc wrote the object; the version was compared above.
        unsafe {{ ::lmc_runtime::Model::from_raw(&{name}_model) }}.expect(\"compiled for this version\")
    }}

    /// Runs one inference.
    ///
{docs}    /// * `arena`: any arena that no other call uses now
{function}
}}
",
        version = lmc_runtime::abi::VERSION,
        arena = c.program.arena_bytes,
        align = c.program.arena_align,
        stack = c.stack_bytes,
        limits = constants(&params),
        words = words(c.strings),
        function = function(name, &params),
    )
}

/// What sizes known only at run time may be.
fn constants(params: &[Param]) -> String {
    let constant = |(name, value, text): (String, usize, String)| {
        format!("    /// {text}\n    pub const {name}: usize = {value};\n")
    };
    let all: String = limits(params).into_iter().map(constant).collect();
    if all.is_empty() { all } else { all + "\n" }
}

/// The words that numbers stand for; where inputs are words, the function from a word to its number.
fn words(strings: &Strings) -> String {
    if strings.words.is_empty() {
        return String::new();
    }
    let count = strings.words.len();
    let list: String = strings.words.iter().map(|w| format!("        {w:?},\n")).collect();
    let number =
        "    /// The number of a string in an input of words; -1 for one that the model does not know.
    pub fn word_number(word: &str) -> i64 {
        WORDS.iter().position(|w| *w == word).map_or(-1, |number| number as i64)
    }

";
    format!(
        "    /// The strings that numbers of words stand for.
    pub const WORDS: [&str; {count}] = [
{list}    ];

{}",
        if strings.inputs.contains(&true) { number } else { "" }
    )
}

/// Puts the identifier before the colon into code marks.
fn code(line: &str) -> String {
    line.split_once(':').map_or(line.to_owned(), |(name, rest)| format!("`{name}`:{rest}"))
}

fn function(name: &str, params: &[Param]) -> String {
    let mut text = "    pub fn run(\n".to_owned();
    for param in params {
        writeln!(text, "        {}: {},", param.name, type_of(param)).expect("a string");
    }
    text += "        arena: &mut Arena,\n    ) -> ::core::result::Result<(), ::lmc_runtime::Error> {\n";
    let mut array = |ty: &str, name: &str, mutable: &str, elems: Vec<String>| {
        let count = elems.len();
        writeln!(text, "        let {mutable}{name}: [{ty}; {count}] = [{}];", elems.join(", "))
            .expect("a string");
    };
    let pick = |keep: fn(&Param) -> Option<String>| params.iter().filter_map(keep).collect::<Vec<_>>();
    let inputs = pick(|p| matches!(p.what, What::Input(..)).then(|| format!("{}.as_ptr().cast()", p.name)));
    let outputs =
        pick(|p| matches!(p.what, What::Output(..)).then(|| format!("{}.as_mut_ptr().cast()", p.name)));
    let symbols = pick(|p| match p.what {
        What::SizeIn(_) => Some(format!("{}.try_into().unwrap_or(i64::MAX)", p.name)),
        What::SizeOut(_) => Some("0".to_owned()),
        _ => None,
    });
    array("*const ::core::ffi::c_void", "inputs", "", inputs);
    array("*mut ::core::ffi::c_void", "outputs", "", outputs);
    let pointer = if symbols.is_empty() {
        "::core::ptr::null_mut()"
    } else {
        array("i64", "symbols", "mut ", symbols);
        "symbols.as_mut_ptr()"
    };
    writeln!(
        text,
        "        let arena = arena.memory().as_mut_ptr().cast();
        // SAFETY: the types above have the sizes and alignments that the model states.
        let status = unsafe {{ ({name}_model.run)(inputs.as_ptr(), outputs.as_ptr(), {pointer}, arena) }};"
    )
    .expect("a string");
    let sizes = params.iter().filter(|p| matches!(p.what, What::SizeIn(_) | What::SizeOut(_)));
    for (number, param) in sizes.enumerate().filter(|(_, p)| matches!(p.what, What::SizeOut(_))) {
        writeln!(text, "        *{} = symbols[{number}] as usize;", param.name).expect("a string");
    }
    text + "        ::lmc_runtime::Error::check(status)\n    }"
}

fn type_of(param: &Param) -> String {
    match param.what {
        What::Input(t, _) => format!("&[{}; {}]", element(t.ty.dtype).1, t.ty.elems()),
        What::Output(t, _) => format!("&mut [{}; {}]", element(t.ty.dtype).1, t.ty.elems()),
        What::SizeIn(_) => "usize".to_owned(),
        What::SizeOut(_) => "&mut usize".to_owned(),
    }
}
