//! The C header: the ABI, the memory the model needs, and a typed `run`.

use super::{Compiled, Param, Strings, What, describe, element, limits, params, title};
use std::fmt::Write;

/// The header of a model, complete in itself, for C99 and C++11.
pub fn header(c: &Compiled) -> String {
    let name = &c.program.name;
    let upper = name.to_ascii_uppercase();
    let params = params(c);
    let [first, second] = title(c);
    let fence =
        |open: bool| format!("#ifdef __cplusplus\n{}\n#endif\n", if open { "extern \"C\" {" } else { "}" });
    let comments: String = params.iter().map(|p| format!(" *   {}\n", describe(p, &params))).collect();
    format!(
        "\
/*
 * {first}
 * {second}
 */
#ifndef LMC_MODEL_{name}_H
#define LMC_MODEL_{name}_H

{abi}
{open}
/* Scratch memory for one inference at a time: bytes and alignment. */
#define {upper}_ARENA_BYTES {arena}
#define {upper}_ARENA_ALIGN {align}
/* Bytes of stack that {name}_run needs at most. */
#define {upper}_STACK_BYTES {stack}

/* The model, for programs that take any. */
extern const lmc_model {name}_model;
{limits}{words}
/*
 * One inference: 0 or an LMC_ERR_*.
{comments} *   arena: {upper}_ARENA_BYTES bytes, aligned to {upper}_ARENA_ALIGN, own to this call
 */
{function}
{close}
#endif
",
        abi = abi(),
        open = fence(true),
        close = fence(false),
        arena = c.program.arena_bytes,
        align = c.program.arena_align,
        stack = c.stack_bytes,
        limits = constants(&upper, &params),
        words = words(name, c.strings),
        function = function(name, &params),
    )
}

/// What sizes known only at run time may be.
fn constants(upper: &str, params: &[Param]) -> String {
    let define = |(name, value, text): (String, usize, String)| {
        format!("/* {} */\n#define {upper}_{name} {value}\n", text.replace('`', ""))
    };
    let all: String = limits(params).into_iter().map(define).collect();
    if all.is_empty() {
        all
    } else {
        format!("\n/* Sizes known only at run time; others are LMC_ERR_SYMBOL. */\n{all}")
    }
}

/// The function from a word's number to the word; where inputs are words, that back to its number, too.
fn words(name: &str, strings: &Strings) -> String {
    if strings.words.is_empty() {
        return String::new();
    }
    let count = strings.words.len();
    let list: Vec<String> = strings.words.iter().map(|w| format!("        {}", literal(w))).collect();
    let number = format!(
        "
/* The number of a string in an input of words; -1 for one that the model does not know. */
static inline int64_t {name}_word_number(const char *word) {{
    for (int64_t number = 0; number < {count}; number++) {{
        const char *known = {name}_word(number), *given = word;
        while (*known && *known == *given) {{
            known++;
            given++;
        }}
        if (*known == *given) return number;
    }}
    return -1;
}}
"
    );
    format!(
        "
/* The string that the number of a word stands for; 0 where there is none. */
static inline const char *{name}_word(int64_t number) {{
    static const char *const words[{count}] = {{
{},
    }};
    return number >= 0 && number < {count} ? words[number] : 0;
}}
{}",
        list.join(",\n"),
        if strings.inputs.contains(&true) { number.as_str() } else { "" }
    )
}

/// A string literal of C: all but plain characters in octal.
fn literal(text: &str) -> String {
    let byte = |b: u8| match b {
        b'"' | b'\\' | b'?' => format!("\\{}", b as char),
        b' '..=b'~' => (b as char).to_string(),
        _ => format!("\\{b:03o}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

/// The ABI part of `lmc.h`.
fn abi() -> &'static str {
    let between = lmc_runtime::C_HEADER
        .split_once("/* ABI: begin */\n")
        .and_then(|(_, t)| t.split_once("/* ABI: end */"));
    between.map_or("", |(abi, _)| abi)
}

fn function(name: &str, params: &[Param]) -> String {
    let mut text = format!("static inline int32_t {name}_run(");
    let indent = ",\n".to_owned() + &" ".repeat(text.len());
    let mut declared: Vec<String> = params.iter().map(declare).collect();
    declared.push("void *arena".to_owned());
    writeln!(text, "{}) {{", declared.join(&indent)).expect("a string");
    let list = |keep: fn(&Param) -> Option<String>| params.iter().filter_map(keep).collect::<Vec<_>>();
    let inputs = list(|p| matches!(p.what, What::Input(..)).then(|| p.name.clone()));
    let outputs = list(|p| matches!(p.what, What::Output(..)).then(|| p.name.clone()));
    let symbols = list(|p| match p.what {
        What::SizeIn(_) => Some(p.name.clone()),
        What::SizeOut(_) => Some("0".to_owned()),
        _ => None,
    });
    let mut array = |ty: &str, name: &str, elems: &[String]| {
        if elems.is_empty() {
            return "0";
        }
        writeln!(text, "    {ty}{name}[] = {{{}}};", elems.join(", ")).expect("a string");
        match name {
            "inputs" => "inputs",
            "outputs" => "outputs",
            _ => "symbols",
        }
    };
    let inputs = array("const void *const ", "inputs", &inputs);
    let outputs = array("void *const ", "outputs", &outputs);
    let symbols = array("int64_t ", "symbols", &symbols);
    writeln!(text, "    int32_t status = {name}_model.run({inputs}, {outputs}, {symbols}, arena);")
        .expect("a string");
    let sizes = params.iter().filter(|p| matches!(p.what, What::SizeIn(_) | What::SizeOut(_)));
    for (number, param) in sizes.enumerate().filter(|(_, p)| matches!(p.what, What::SizeOut(_))) {
        writeln!(text, "    *{} = symbols[{number}];", param.name).expect("a string");
    }
    text + "    return status;\n}"
}

fn declare(param: &Param) -> String {
    let name = &param.name;
    let tensor = |t: &crate::plan::Interface, constant: &str| {
        let ty = element(t.ty.dtype).0;
        match t.ty.elems() {
            0 => format!("{constant}{ty} *{name}"),
            elems => format!("{constant}{ty} {name}[LMC_AT_LEAST({elems})]"),
        }
    };
    match param.what {
        What::Input(t, _) => tensor(t, "const "),
        What::Output(t, _) => tensor(t, ""),
        What::SizeIn(_) => format!("int64_t {name}"),
        What::SizeOut(_) => format!("int64_t *{name}"),
    }
}
