//! The text form of definitions and lowerings: for reading, goldens and `--dump-after`.
//!
//! The grammar is in `docs/ir.md`; [`super::parse`] reads it back. Values are `v` and their number.
//! `{}` prints long constants as a hash, `{:#}` all elements.

use super::{
    Definition, Expr, Index, Lowering, Operand, Repeat, Routine, Slice, Stage, Strips, ValueId, Var, View,
};
use crate::base::elements;
use crate::base::lex::write_name;
use crate::base::{Affine, DType};
use crate::scalar::Scalar;
use std::fmt;

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::default();
        printer.definition(self);
        f.write_str(&printer.text())
    }
}

impl fmt::Display for Lowering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::default();
        printer.lowering(self, f.alternate());
        f.write_str(&printer.text())
    }
}

/// What a line is about; faults are shown under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A definition's or stage's first line.
    Head,
    /// An expression, by number.
    Expr(usize),
    /// The fold.
    Fold,
    /// The last line.
    Store,
}

/// Lines, with the stage (in the order of the text) and subject of those that can be at fault.
#[derive(Default)]
pub(super) struct Printer {
    pub lines: Vec<String>,
    /// `(stage, subject, line)`, lines from 0.
    pub subjects: Vec<(usize, Subject, usize)>,
    stages: usize,
    depth: usize,
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn constant(scalar: Scalar) -> String {
    elements::element(scalar.dtype, scalar.bits)
}

fn operand(operand: &Operand) -> String {
    format!("v{}: {}", operand.value, operand.ty)
}

impl Printer {
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    fn line(&mut self, text: String) {
        self.lines.push(format!("{}{text}", "  ".repeat(self.depth)));
    }

    fn subject(&mut self, subject: Subject) {
        self.subjects.push((self.stages, subject, self.lines.len()));
    }

    pub fn definition(&mut self, d: &Definition) {
        self.subject(Subject::Head);
        self.line(format!("define {} {{", write_name(&d.name)));
        self.depth += 1;
        let var = |v: &Var| {
            let size = v.size.as_ref().map_or(String::new(), |s| format!(" size {}", affine(d, s)));
            format!("{} < {}{size}", write_name(&v.name), v.extent)
        };
        let (axes, over) = d.vars.split_at(d.axes.min(d.vars.len()));
        for (word, vars) in [("axes", axes), ("over", over)] {
            if !vars.is_empty() {
                self.line(format!("{word} {}", list(vars, var)));
            }
        }
        d.operands.iter().for_each(|o| self.line(format!("read {}", operand(o))));
        self.line(format!("write {}", operand(&d.output)));
        let types = super::types::types(d);
        let mut fold = d.fold.as_ref();
        for (i, expr) in d.exprs.iter().enumerate() {
            if *expr == Expr::Acc && fold.take().is_some() {
                self.fold(d);
            }
            self.subject(Subject::Expr(i));
            let ty = types[i].map_or("?", DType::name);
            self.line(format!("%{i}: {ty} = {}", expression(d, expr)));
        }
        if fold.is_some() {
            self.fold(d);
        }
        self.subject(Subject::Store);
        let index = list(&d.store, |form| affine(d, form));
        self.line(format!("store v{}[{index}] = %{}", d.output.value, d.finish));
        self.depth -= 1;
        self.line("}".to_string());
        self.stages += 1;
    }

    fn fold(&mut self, d: &Definition) {
        if let Some(fold) = &d.fold {
            self.subject(Subject::Fold);
            self.line(format!("fold {} {} %{}", fold.op.name(), fold.dtype, fold.body));
        }
    }

    pub fn lowering(&mut self, lowering: &Lowering, full: bool) {
        self.line("lowering {".to_string());
        self.depth += 1;
        for (i, value) in lowering.values.iter().enumerate() {
            let constant = value.constant.as_ref();
            let elements = constant.map_or(String::new(), |t| format!(" = {}", elements::print(t, full)));
            self.line(format!("v{i} {}: {}{elements}", write_name(&value.name), value.ty));
        }
        for (number, size) in lowering.sizes.iter().enumerate() {
            let name = size.name.as_deref().map_or(String::new(), |n| format!(" {}", write_name(n)));
            self.line(format!("size ?{number}{name} = v{} <= {}", size.value, size.max));
        }
        for (value, dims) in &lowering.dims {
            let dims = list(dims, |form| form.display(|v| format!("?{v}")));
            self.line(format!("dims v{value}[{dims}]"));
        }
        lowering.stages.iter().for_each(|s| self.stage(s));
        self.depth -= 1;
        self.line("}".to_string());
    }

    fn stage(&mut self, stage: &Stage) {
        match stage {
            Stage::Define(definition) => self.definition(definition),
            Stage::Routine(routine) => self.routine(routine),
            Stage::Reshape { from, to } => {
                self.subject(Subject::Head);
                self.line(format!("reshape v{to} = v{from}"));
                self.stages += 1;
            }
            Stage::Repeat(repeat) => self.repeat(repeat),
            Stage::Strips(strips) => self.strips(strips),
        }
    }

    fn routine(&mut self, routine: &Routine) {
        self.subject(Subject::Head);
        self.line(format!("routine {}", list(&routine.operands, operand)));
        self.depth += 1;
        routine.kernel.to_string().lines().for_each(|l| self.line(l.to_string()));
        self.depth -= 1;
        self.stages += 1;
    }

    fn repeat(&mut self, repeat: &Repeat) {
        self.subject(Subject::Head);
        self.stages += 1;
        let size = repeat.size.as_ref().map(|s| format!(" size {}", s.display(|v| format!("?{v}"))));
        let condition = repeat.condition.map(|c| format!(" while v{c}"));
        let (size, condition) = (size.unwrap_or_default(), condition.unwrap_or_default());
        self.line(format!("repeat {}{size}{condition} {{", repeat.count));
        self.depth += 1;
        for Slice { whole, part, reversed, written } in &repeat.slices {
            let word = if *written { "write" } else { "read" };
            let reversed = if *reversed { " reversed" } else { "" };
            self.line(format!("slice {word} v{part} of v{whole}{reversed}"));
        }
        for c in &repeat.carries {
            self.line(format!("carry v{} from v{} next v{} last v{}", c.state, c.initial, c.next, c.last));
        }
        repeat.body.iter().for_each(|s| self.stage(s));
        self.depth -= 1;
        self.line("}".to_string());
    }
}

impl Printer {
    fn strips(&mut self, strips: &Strips) {
        self.subject(Subject::Head);
        self.stages += 1;
        self.line(format!("strips {} {{", strips.count));
        self.depth += 1;
        for View { whole, part, dim, start, step } in &strips.views {
            self.line(format!("view v{part} of v{whole} dim {dim} from {start} step {step}"));
        }
        strips.body.iter().for_each(|s| self.stage(s));
        self.depth -= 1;
        self.line("}".to_string());
    }
}

fn affine(d: &Definition, form: &Affine) -> String {
    form.display(|v| d.vars.get(v as usize).map_or(format!("?{v}"), |v| write_name(&v.name)))
}

fn value_of(d: &Definition, operand: u32) -> String {
    d.operands.get(operand as usize).map_or("?".to_string(), |o| value(o.value))
}

fn value(id: ValueId) -> String {
    format!("v{id}")
}

fn expression(d: &Definition, expr: &Expr) -> String {
    match expr {
        Expr::Const(scalar) => format!("const {}", constant(*scalar)),
        Expr::Index(form) => format!("index {}", affine(d, form)),
        Expr::Acc => "acc".to_string(),
        Expr::Load { operand, index, fill } => {
            let index = list(index, |i| match i {
                Index::Affine(form) => affine(d, form),
                Index::Dynamic(expr) => format!("%{expr}"),
            });
            let fill = fill.map_or(String::new(), |f| format!(" else {}", constant(f)));
            format!("load {}[{index}]{fill}", value_of(d, *operand))
        }
        Expr::Op(op, args) => format!("{} {}", op.name(), list(args, |a| format!("%{a}"))),
        Expr::Cast { to, saturate, arg } => {
            format!("cast {to} {}%{arg}", if *saturate { "" } else { "overflow " })
        }
        Expr::Bitcast { to, arg } => format!("bitcast {to} %{arg}"),
    }
}
