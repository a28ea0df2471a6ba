//! The text form of programs: for reading, goldens and `--dump-after`; [`super::parse`] reads it
//! back.
//!
//! The grammar is in `docs/ir.md`. `{}` prints long constants as a hash, `{:#}` all bytes.

use super::{Arg, Base, Interface, Program, Step, Symbol};
use crate::base::lex::write_name;
use crate::base::{Affine, DType, Tensor, TensorType, elements};
use std::fmt;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} {{", write_name(&self.name))?;
        for symbol in &self.symbols {
            writeln!(f, "  symbol {}", symbol_text(symbol))?;
        }
        for (word, list) in [("input", &self.inputs), ("output", &self.outputs)] {
            list.iter().try_for_each(|i| writeln!(f, "  {word} {}", interface(i)))?;
        }
        writeln!(f, "  arena {} align {} bound {}", self.arena_bytes, self.arena_align, self.arena_bound)?;
        writeln!(f, "  macs {}", self.macs)?;
        for c in &self.constants {
            let ty = TensorType::new(DType::U8, [c.bytes.len()]);
            let tensor = Tensor::from_bytes(ty, c.bytes.clone()).ok_or(fmt::Error)?;
            let bytes = elements::print(&tensor, f.alternate());
            writeln!(
                f,
                "  const {}: u8[{}] align {} = {bytes}",
                write_name(&c.name),
                c.bytes.len(),
                c.align
            )?;
        }
        for kernel in &self.kernels {
            kernel.to_string().lines().try_for_each(|l| writeln!(f, "  {l}"))?;
        }
        self.steps.iter().try_for_each(|s| self.step(f, s, 1))?;
        writeln!(f, "}}")
    }
}

fn interface(i: &Interface) -> String {
    let dim = |(d, symbol): (&usize, Option<u32>)| symbol.map_or(d.to_string(), |s| format!("?{s}"));
    let symbols = i.symbolic.iter().copied().chain(std::iter::repeat(None));
    let shape: Vec<String> = i.ty.shape.iter().zip(symbols).map(dim).collect();
    format!("{}: {}[{}]", write_name(&i.name), i.ty.dtype, shape.join(","))
}

/// A pointer: `arena[128*i0 + 64]`, with `i0` the iteration of the outermost loop around.
pub(super) fn argument(arg: &Arg) -> String {
    let base = match arg.base {
        Base::Input(i) => format!("input{i}"),
        Base::Output(i) => format!("output{i}"),
        Base::Constant(i) => format!("const{i}"),
        Base::Arena => "arena".to_string(),
        Base::Symbols => "symbols".to_string(),
    };
    let mut form = Affine::constant(arg.offset as i64);
    arg.strides.iter().enumerate().for_each(|(i, &s)| form.add_term(i as u32, s));
    format!("{base}[{}]", form.display(|v| format!("i{v}")))
}

impl Program {
    fn step(&self, f: &mut fmt::Formatter<'_>, step: &Step, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let list = |f: &mut fmt::Formatter<'_>, steps: &[Step]| {
            steps.iter().try_for_each(|s| self.step(f, s, depth + 1))
        };
        match step {
            Step::Call { kernel, args } => {
                let name =
                    self.kernels.get(*kernel as usize).map_or("?".to_string(), |k| write_name(&k.name));
                let args: Vec<String> = args.iter().map(argument).collect();
                writeln!(f, "{indent}call {name}({})", args.join(", "))
            }
            Step::Repeat { count, trip, cond, body } => {
                let clause = |word: &str, arg: &Option<Arg>| {
                    arg.as_ref().map_or(String::new(), |a| format!(" {word} {}", argument(a)))
                };
                let clauses = clause("trip", trip) + &clause("while", cond);
                writeln!(f, "{indent}repeat {count}{clauses} {{")?;
                list(f, body)?;
                writeln!(f, "{indent}}}")
            }
            Step::If { cond, then, otherwise } => {
                writeln!(f, "{indent}if {} {{", argument(cond))?;
                list(f, then)?;
                writeln!(f, "{indent}}} else {{")?;
                list(f, otherwise)?;
                writeln!(f, "{indent}}}")
            }
        }
    }
}

/// Bound, smallest size and step where they are not those of any dimension, and what it is the sum of.
fn symbol_text(symbol: &Symbol) -> String {
    let Some(name) = &symbol.name else { return format!("<= {}", symbol.max) };
    let mut text = format!("{} <= {}", write_name(name), symbol.max);
    let plain = Symbol::given(name, symbol.max);
    if (symbol.least, symbol.step) != (plain.least, plain.step) {
        text += &format!(" from {} step {}", symbol.least, symbol.step);
    }
    if let Some((terms, number)) = &symbol.sum {
        let terms = terms.iter().map(|(of, times)| format!("{times}*?{of} + "));
        text += &format!(" is {}{number}", terms.collect::<String>());
    }
    text
}
