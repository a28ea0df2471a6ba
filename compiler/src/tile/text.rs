//! The text form of kernels: for reading, goldens and `--dump-after`; [`super::parse`] reads it back.
//!
//! The grammar is in `docs/ir.md`. The tables of names are shared with the parser. Printing counts
//! statements in order, so that the verifier can put an error under the guilty line.

use super::{Access, Addr, Bin, Cmp, Convert, Dot, Kernel, Lane, Reg, RegType, Signs, Stmt, Un, Value};
use crate::base::lex::write_name;
use crate::base::{Affine, Bound};
use half::f16;
use std::fmt;

pub(super) const LANES: &[(Lane, &str)] = &[
    (Lane::F16, "f16"),
    (Lane::F32, "f32"),
    (Lane::F64, "f64"),
    (Lane::I32, "i32"),
    (Lane::I64, "i64"),
    (Lane::M32, "m32"),
    (Lane::M64, "m64"),
];

pub(super) const ACCESSES: &[(Access, &str)] =
    &[(Access::Read, "read"), (Access::Write, "write"), (Access::ReadWrite, "readwrite")];

pub(super) const UNS: &[(Un, &str)] = &[
    (Un::Neg, "neg"),
    (Un::Abs, "abs"),
    (Un::Sqrt, "sqrt"),
    (Un::Floor, "floor"),
    (Un::Ceil, "ceil"),
    (Un::Trunc, "trunc"),
    (Un::Round, "round"),
    (Un::Not, "not"),
];

pub(super) const BINS: &[(Bin, &str)] = &[
    (Bin::Add, "add"),
    (Bin::Sub, "sub"),
    (Bin::Mul, "mul"),
    (Bin::Div, "div"),
    (Bin::DivS, "div_s"),
    (Bin::DivU, "div_u"),
    (Bin::RemS, "rem_s"),
    (Bin::RemU, "rem_u"),
    (Bin::Min, "min"),
    (Bin::Max, "max"),
    (Bin::MinNan, "min_nan"),
    (Bin::MaxNan, "max_nan"),
    (Bin::MinU, "min_u"),
    (Bin::MaxU, "max_u"),
    (Bin::And, "and"),
    (Bin::Or, "or"),
    (Bin::Xor, "xor"),
    (Bin::Shl, "shl"),
    (Bin::ShrS, "shr_s"),
    (Bin::ShrU, "shr_u"),
    (Bin::MulHigh, "mul_high"),
    (Bin::ShrRound, "shr_round"),
    (Bin::AddCouples, "add_couples"),
    (Bin::SubCouples, "sub_couples"),
    (Bin::MinBytes, "min_bytes"),
    (Bin::MaxBytes, "max_bytes"),
    (Bin::MinBytesU, "min_bytes_u"),
    (Bin::MaxBytesU, "max_bytes_u"),
];

pub(super) const CMPS: &[(Cmp, &str)] = &[
    (Cmp::Eq, "eq"),
    (Cmp::Ne, "ne"),
    (Cmp::Lt, "lt"),
    (Cmp::Le, "le"),
    (Cmp::Gt, "gt"),
    (Cmp::Ge, "ge"),
    (Cmp::LtU, "lt_u"),
    (Cmp::LeU, "le_u"),
];

/// All but the two that take a number of bits.
pub(super) const CONVERTS: &[(Convert, &str)] = &[
    (Convert::FloatToInt, "float_to_int"),
    (Convert::FloatToUint, "float_to_uint"),
    (Convert::Nearest, "nearest"),
    (Convert::NearestSmall, "nearest_small"),
    (Convert::IntToFloat, "int_to_float"),
    (Convert::UintToFloat, "uint_to_float"),
    (Convert::Float, "float"),
    (Convert::RoundF16, "round_f16"),
    (Convert::RoundBf16, "round_bf16"),
    (Convert::Int, "int"),
    (Convert::Zext, "zext"),
    (Convert::Bits, "bits"),
];

pub(super) const DOTS: &[(Dot, &str)] = &[
    (Dot::Us, "dot_us"),
    (Dot::Ss, "dot_ss"),
    (Dot::Sn, "dot_sn"),
    (Dot::Uu, "dot_uu"),
    (Dot::Couples, "dot_couples"),
    (Dot::Pairs, "dot_pairs"),
    (Dot::Halves, "dot_halves"),
    (Dot::HalfPairs, "dot_half_pairs"),
    (Dot::CoupleHalves, "dot_couple_halves"),
    (Dot::Bytes, "dot_bytes"),
    (Dot::Squares(Signs::Us), "squares_us"),
    (Dot::Squares(Signs::Ss), "squares_ss"),
    (Dot::Squares(Signs::Uu), "squares_uu"),
];

/// The name of an entry of one of the tables; every variant has one.
fn name<T: PartialEq>(table: &[(T, &'static str)], item: &T) -> &'static str {
    table.iter().find(|r| r.0 == *item).map_or("?", |r| r.1)
}

impl fmt::Display for RegType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(LANES, &self.lane))?;
        if self.lanes == 1 { Ok(()) } else { write!(f, "x{}", self.lanes) }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Printer::print(self).text())
    }
}

/// The lines of a kernel, and on which of them each statement begins.
pub(super) struct Printer<'a> {
    kernel: &'a Kernel,
    pub(super) lines: Vec<String>,
    /// Line number (from 0) of each statement, in the order of the text.
    pub(super) line_of: Vec<usize>,
    depth: usize,
}

impl<'a> Printer<'a> {
    pub(super) fn print(kernel: &'a Kernel) -> Self {
        let mut p = Printer { kernel, lines: Vec::new(), line_of: Vec::new(), depth: 0 };
        let fused = if kernel.fused { " fused" } else { "" };
        p.line(format!("kernel {}{fused} {{", write_name(&kernel.name)));
        p.depth = 1;
        for param in &kernel.params {
            let access = name(ACCESSES, &param.access);
            p.line(format!("{access} {}: {}[{}]", write_name(&param.name), param.dtype, param.elems));
        }
        if !kernel.vars.is_empty() {
            let names: Vec<String> = kernel.vars.iter().map(|v| write_name(v)).collect();
            p.line(format!("vars {}", names.join(", ")));
        }
        let mut assigned = vec![false; kernel.regs.len()];
        mark_assigned(&kernel.body, &mut assigned);
        for (reg, ty) in kernel.regs.iter().enumerate().filter(|(i, _)| !assigned[*i]) {
            p.line(format!("reg %{reg}: {ty}"));
        }
        p.body(&kernel.body);
        p.depth = 0;
        p.line("}".to_string());
        p
    }

    pub(super) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    fn line(&mut self, text: String) {
        self.lines.push(format!("{}{text}", "  ".repeat(self.depth)));
    }

    fn block(&mut self, head: String, body: &[Stmt]) {
        self.line(head);
        self.depth += 1;
        self.body(body);
        self.depth -= 1;
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            self.line_of.push(self.lines.len());
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(dst, value) => {
                let ty = self.kernel.regs.get(*dst as usize);
                let ty = ty.map_or("?".to_string(), |t| t.to_string());
                let value = self.value(*dst, value);
                self.line(format!("%{dst}: {ty} = {value}"));
            }
            Stmt::Store { addr, stride, src } => {
                let place = self.place(addr, *stride, 1);
                self.line(format!("store {place} = %{src}"));
            }
            Stmt::For { var, lo, hi, step, body } => {
                let (lo, hi) = (self.bound("max", lo), self.bound("min", hi));
                let step = if *step == 1 { String::new() } else { format!(" step {step}") };
                self.block(format!("for {} in {lo}..{hi}{step} {{", self.var(*var)), body);
                self.line("}".to_string());
            }
            Stmt::Size { var, from, max, body } => {
                let place = self.place(from, 1, 1);
                self.block(format!("size {} = {place} <= {max} {{", self.var(*var)), body);
                self.line("}".to_string());
            }
            Stmt::If { cond, then, otherwise } => {
                self.block(format!("if %{cond} {{"), then);
                if !otherwise.is_empty() {
                    self.block("} else {".to_string(), otherwise);
                }
                self.line("}".to_string());
            }
            Stmt::Loop { body } => {
                self.block("loop {".to_string(), body);
                self.line("}".to_string());
            }
            Stmt::Break { cond } => self.line(format!("break if %{cond}")),
            Stmt::Fail { cond, code } => self.line(format!("fail {code} if %{cond}")),
        }
    }

    fn value(&self, dst: Reg, value: &Value) -> String {
        match value {
            Value::Const(bits) => {
                format!("const {}", constant(self.kernel.regs.get(dst as usize).map(|t| t.lane), *bits))
            }
            Value::Index(form, 0) => format!("index {}", self.affine(form)),
            Value::Index(form, step) => format!("index {} step {step}", self.affine(form)),
            Value::Copy(a) => format!("%{a}"),
            Value::Load(addr, stride) => format!("load {}", self.place(addr, *stride, 1)),
            Value::LoadWords(addr, stride) => format!("words {}", self.place(addr, *stride, 4)),
            Value::LoadCouples(addr) => format!("couples {}", self.place(addr, 1, 1)),
            Value::Lookup(addr, a) => format!("lookup {}, %{a}", self.place(addr, 1, 1)),
            Value::Un(op, a) => format!("{} %{a}", name(UNS, op)),
            Value::Bin(op, a, b) => format!("{} %{a}, %{b}", name(BINS, op)),
            Value::Mla(c, a, b) => format!("mla %{c}, %{a}, %{b}"),
            Value::Dot(kind, c, a, b) => format!("{} %{c}, %{a}, %{b}", name(DOTS, kind)),
            Value::Cmp(op, a, b) => format!("{} %{a}, %{b}", name(CMPS, op)),
            Value::Select(m, a, b) => format!("select %{m}, %{a}, %{b}"),
            Value::Convert(Convert::SextLow(n), a) => format!("sext_low {n}, %{a}"),
            Value::Convert(Convert::ZextLow(n), a) => format!("zext_low {n}, %{a}"),
            Value::Convert(kind, a) => format!("{} %{a}", name(CONVERTS, kind)),
            Value::Splat(a) => format!("splat %{a}"),
            Value::Broadcast(a, i) => format!("broadcast %{a}[{i}]"),
            Value::Pairs(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(a, i)| format!("%{a}[{i}]")).collect();
                format!("pairs {}", pairs.join(", "))
            }
            Value::Reduce(fold, a) => format!("reduce {} %{a}", fold.name()),
        }
    }

    fn place(&self, addr: &Addr, stride: i64, usual: i64) -> String {
        let param = self.kernel.params.get(addr.param as usize);
        let param = param.map_or(format!("?{}", addr.param), |p| write_name(&p.name));
        let dynamic = addr.dynamic.map_or(String::new(), |(reg, limit)| format!("; %{reg} <= {limit}"));
        let stride = if stride == usual { String::new() } else { format!(" stride {stride}") };
        format!("{param}[{}{dynamic}]{stride}", self.affine(&addr.index))
    }

    fn var(&self, var: u32) -> String {
        self.kernel.vars.get(var as usize).map_or(format!("?{var}"), |v| write_name(v))
    }

    fn affine(&self, form: &Affine) -> String {
        form.display(|v| self.var(v))
    }

    fn bound(&self, word: &str, bound: &Bound) -> String {
        match bound.0.as_slice() {
            [one] => self.affine(one),
            forms => {
                let forms: Vec<String> = forms.iter().map(|f| self.affine(f)).collect();
                format!("{word}({})", forms.join(", "))
            }
        }
    }
}

/// A constant lane: a number that reads back as the same bits, else the bits.
fn constant(lane: Option<Lane>, bits: u64) -> String {
    let text = match lane {
        Some(Lane::F16) => format!("{:?}", f16::from_bits(bits as u16).to_f32()),
        Some(Lane::F32) => format!("{:?}", f32::from_bits(bits as u32)),
        Some(Lane::F64) => format!("{:?}", f64::from_bits(bits)),
        Some(Lane::I32) => (bits as i32).to_string(),
        Some(Lane::I64) => (bits as i64).to_string(),
        Some(Lane::M32 | Lane::M64) if bits <= 1 => (bits == 1).to_string(),
        _ => format!("{bits:#x}"),
    };
    match lane {
        Some(lane) if constant_bits(lane, &text) == Some(bits) => text,
        _ => format!("{bits:#x}"),
    }
}

/// The bits that a constant's text stands for.
pub(super) fn constant_bits(lane: Lane, text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    match lane {
        Lane::F16 => {
            text.parse::<f32>().ok().filter(|v| !v.is_nan()).map(|v| f16::from_f32(v).to_bits().into())
        }
        Lane::F32 => text.parse::<f32>().ok().filter(|v| !v.is_nan()).map(|v| u64::from(v.to_bits())),
        Lane::F64 => text.parse::<f64>().ok().filter(|v| !v.is_nan()).map(f64::to_bits),
        Lane::I32 => text.parse::<i32>().ok().map(|v| u64::from(v as u32)),
        Lane::I64 => text.parse::<i64>().ok().map(|v| v as u64),
        Lane::M32 | Lane::M64 => text.parse::<bool>().ok().map(u64::from),
    }
}

fn mark_assigned(body: &[Stmt], assigned: &mut [bool]) {
    for stmt in body {
        match stmt {
            Stmt::Let(dst, _) => {
                if let Some(flag) = assigned.get_mut(*dst as usize) {
                    *flag = true;
                }
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                mark_assigned(body, assigned)
            }
            Stmt::If { then, otherwise, .. } => {
                mark_assigned(then, assigned);
                mark_assigned(otherwise, assigned);
            }
            Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
    }
}
