//! The text forms of schedules and of linear definitions; the grammar is in `docs/ir.md`.
//!
//! A schedule is read back with the variables of its linear definition; a linear definition is
//! only printed, since it follows from a definition and the layouts.

use super::blocked::Words;
use super::chains::Chains;
use super::linear::{Buffer, DynamicIndex, Facts, Fixed, Guard, Linear, LinearVar, Node, Pair, Placed};
use super::sparse::Sparse;
use super::winograd::{Conv, Tiles, WINDOW, Winograd, product};
use super::{ReduceStep, Schedule, Vector};
use crate::base::lex::{Cursor, write_name};
use crate::base::{Affine, elements};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::fmt;

/// What a line of a schedule is about; faults are shown under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Vector,
    Tile,
    Order,
    Reduce,
    Pack,
    Broadcast,
    Dot,
    HalfSums,
    HalfFinish,
    Begun,
    Tested,
    Restored,
    Woven,
    Apart,
    Winograd,
    Sparse,
    Blocked,
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// The lines of a schedule with what they are about.
pub(super) fn lines(schedule: &Schedule, linear: &Linear) -> Vec<(String, Option<Subject>)> {
    let mut lines = vec![(format!("schedule {} {{", write_name(&linear.name)), None)];
    let mut line = |subject: Subject, text: String| lines.push((format!("  {text}"), Some(subject)));
    loops(schedule, linear, &mut line);
    if let Some(products) = products(schedule) {
        line(Subject::Dot, products);
    }
    if schedule.half_sums > 0 {
        let parts = match schedule.half_parts < schedule.half_sums {
            true => format!(" by {}", schedule.half_parts),
            false => String::new(),
        };
        line(Subject::HalfSums, format!("half sums {}{parts}", schedule.half_sums));
    }
    let flags = [
        (schedule.half_finish, Subject::HalfFinish, "half finish"),
        (schedule.begun, Subject::Begun, "begun"),
        (schedule.tested, Subject::Tested, "tested"),
        (schedule.restored, Subject::Restored, "restored"),
        (schedule.woven, Subject::Woven, "woven"),
    ];
    flags.into_iter().filter(|f| f.0).for_each(|(_, subject, text)| line(subject, text.to_string()));
    if schedule.apart > 0 {
        line(Subject::Apart, format!("apart {}", schedule.apart));
    }
    if let (Some(w), Some(conv)) = (&schedule.winograd, Conv::of(linear)) {
        let halves = if w.halves { " halves" } else { "" };
        let columns = if w.columns > 0 { format!(" columns {}", w.columns) } else { String::new() };
        let each = if w.each { " each" } else { "" };
        let Tiles { outputs, part, rows, across } = w.tiles;
        let part = if part == WINDOW { String::new() } else { format!(" of {part}") };
        let all = across == conv.tiles(linear, 1, outputs);
        let across = if all { String::new() } else { format!(" across {across}") };
        line(
            Subject::Winograd,
            format!("winograd {outputs}{part} rows {rows}{across}{halves}{columns}{each} {{"),
        );
        let products = product(&conv, linear, w.tiles);
        let inner = self::lines(&w.product, &products);
        inner[1..].iter().for_each(|(text, _)| line(Subject::Winograd, text.clone()));
    }
    if let Some(Sparse { vectors, rows }) = schedule.sparse {
        let rows = if rows == 1 { String::new() } else { format!(" rows {rows}") };
        line(Subject::Sparse, format!("sparse {vectors}{rows}"));
    }
    if let Some((_, name)) = Words::NAMES.iter().find(|w| Some(w.0) == schedule.blocked) {
        line(Subject::Blocked, format!("blocked {name}"));
    }
    lines.push(("}".to_string(), None));
    lines
}

/// The loops: what fills lanes, the tile, the orders, and what is packed and broadcast for them.
fn loops(schedule: &Schedule, linear: &Linear, line: &mut impl FnMut(Subject, String)) {
    let name = |v: u32| linear.vars.get(v as usize).map_or(format!("?{v}"), |v| write_name(&v.name));
    let of = |n: usize, v: u32| format!("{n} of {}", name(v));
    let vector = match schedule.vector {
        Vector::None => "vector none".to_string(),
        Vector::Axis { var, lanes } => format!("vector {}", of(lanes, var)),
        Vector::Reduction { var, lanes } => format!("vector {lanes} over {}", name(var)),
    };
    line(Subject::Vector, vector);
    let lists = [
        (Subject::Tile, "tile", list(&schedule.tile, |&(v, n)| of(n, v))),
        (Subject::Order, "order", list(&schedule.order, |&v| name(v))),
        (Subject::Reduce, "reduce", list(&schedule.reduce, |r| of(r.unroll, r.var))),
        (Subject::Pack, "pack", list(&schedule.pack, |p| format!("in{p}"))),
    ];
    for (subject, word, items) in lists.into_iter().filter(|l| !l.2.is_empty()) {
        line(subject, format!("{word} {items}"));
    }
    if schedule.lane_loads != 1 {
        line(Subject::Broadcast, format!("broadcast {}", schedule.lane_loads));
    }
}

/// How products of narrow numbers are summed several at a time.
fn products(schedule: &Schedule) -> Option<String> {
    let text = match schedule.dot {
        1 => return None,
        2 => {
            let wide = if schedule.wide { " wide" } else { "" };
            let halves = if schedule.halves { " halves" } else { "" };
            return Some(format!("couples{wide}{halves}"));
        }
        8 => "squares",
        _ if schedule.long => "dot halves long",
        _ if schedule.halves => "dot halves",
        _ if schedule.chains => "dot chains",
        _ if schedule.dense => "dot dense",
        _ => "dot",
    };
    Some(text.to_string())
}

impl Schedule {
    /// Text form, with the names of the definition's variables.
    pub fn display(&self, linear: &Linear) -> String {
        lines(self, linear).into_iter().map(|l| l.0 + "\n").collect()
    }
}

/// Reads a schedule of a linear definition. Errors name the line. What the grammar allows need not
/// be valid: that is for [`super::verify`].
pub fn parse(text: &str, linear: &Linear) -> Result<Schedule> {
    let mut cursor = Cursor::new(text)?;
    let mut reader = Reader { cursor: &mut cursor, linear };
    let schedule = reader.schedule()?;
    cursor.end()?;
    Ok(schedule)
}

struct Reader<'a> {
    cursor: &'a mut Cursor,
    linear: &'a Linear,
}

impl Reader<'_> {
    fn schedule(&mut self) -> Result<Schedule> {
        self.cursor.expect("schedule")?;
        let name = self.cursor.name("a name")?;
        if name != self.linear.name {
            let wanted = &self.linear.name;
            return Err(self.cursor.error(format!("this is the schedule of '{name}', not of '{wanted}'")));
        }
        self.body()
    }

    /// `{ vector ... }`
    fn body(&mut self) -> Result<Schedule> {
        self.cursor.expect("{")?;
        self.cursor.expect("vector")?;
        let mut schedule = Schedule {
            vector: self.vector()?,
            order: Vec::new(),
            reduce: Vec::new(),
            ..Schedule::naive(self.linear)
        };
        if self.cursor.eat("tile") {
            schedule.tile = self.list(|r| r.of().map(|(n, v)| (v, n)))?;
        }
        if self.cursor.eat("order") {
            schedule.order = self.list(Self::var)?;
        }
        if self.cursor.eat("reduce") {
            schedule.reduce = self.list(|r| r.of().map(|(unroll, var)| ReduceStep { var, unroll }))?;
        }
        if self.cursor.eat("pack") {
            schedule.pack = self.list(Self::operand)?;
        }
        if self.cursor.eat("broadcast") {
            schedule.lane_loads = self.cursor.int()?;
        }
        schedule.dot = match () {
            _ if self.cursor.eat("dot") => 4,
            _ if self.cursor.eat("couples") => 2,
            _ if self.cursor.eat("squares") => 8,
            _ => 1,
        };
        schedule.wide = schedule.dot == 2 && self.cursor.eat("wide");
        schedule.halves = matches!(schedule.dot, 2 | 4) && self.cursor.eat("halves");
        schedule.long = schedule.halves && schedule.dot == 4 && self.cursor.eat("long");
        schedule.chains = schedule.dot == 4 && self.cursor.eat("chains");
        schedule.dense = schedule.dot == 4 && self.cursor.eat("dense");
        self.halves(&mut schedule)?;
        schedule.begun = self.cursor.eat("begun");
        schedule.tested = self.cursor.eat("tested");
        schedule.restored = self.cursor.eat("restored");
        schedule.woven = self.cursor.eat("woven");
        if self.cursor.eat("apart") {
            schedule.apart = self.cursor.int()?;
        }
        if self.cursor.eat("winograd") {
            schedule.winograd = Some(self.winograd()?);
        }
        if self.cursor.eat("sparse") {
            let vectors = self.cursor.int()?;
            let rows = if self.cursor.eat("rows") { self.cursor.int()? } else { 1 };
            schedule.sparse = Some(Sparse { vectors, rows });
        }
        if self.cursor.eat("blocked") {
            let words = Words::NAMES.iter().find(|w| self.cursor.eat(w.1));
            let words = words.ok_or_else(|| self.cursor.error("how words are multiplied is not known"))?;
            schedule.blocked = Some(words.0);
        }
        self.cursor.expect("}")?;
        Ok(schedule)
    }

    /// `half sums PRODUCTS [by PRODUCTS]`, `half finish`.
    fn halves(&mut self, schedule: &mut Schedule) -> Result<()> {
        while self.cursor.eat("half") {
            match self.cursor.eat("finish") {
                true => schedule.half_finish = true,
                false => {
                    self.cursor.expect("sums")?;
                    schedule.half_sums = self.cursor.int()?;
                    let by = self.cursor.eat("by");
                    schedule.half_parts = if by { self.cursor.int()? } else { schedule.half_sums };
                }
            }
        }
        Ok(())
    }

    /// `OUTPUTS [of POINTS] rows ROWS [across TILES] [halves] [columns TILES [each]] { vector ... }`, the schedule of the products.
    fn winograd(&mut self) -> Result<Winograd> {
        let outputs = self.cursor.int()?;
        let part = if self.cursor.eat("of") { self.cursor.int()? } else { WINDOW };
        self.cursor.expect("rows")?;
        let rows = self.cursor.int()?;
        let across = if self.cursor.eat("across") { Some(self.cursor.int()?) } else { None };
        let halves = self.cursor.eat("halves");
        let columns = if self.cursor.eat("columns") { self.cursor.int()? } else { 0 };
        let each = self.cursor.eat("each");
        let conv = Conv::of(self.linear).filter(|c| c.sizes(self.linear).contains(&(outputs, part)));
        let conv = conv.ok_or_else(|| self.cursor.error("no convolution for this filtering".to_string()))?;
        let whole = conv.whole_rows(self.linear, (outputs, part), rows);
        let tiles = Tiles { across: across.unwrap_or(whole.across), ..whole };
        let there = [conv.tiles(self.linear, 0, outputs), whole.across];
        if !(1..=there[0]).contains(&rows) || !(1..=there[1]).contains(&tiles.across) {
            let [rows, across] = there;
            return Err(self.cursor.error(format!("there are {rows} rows of {across} tiles")));
        }
        let products = product(&conv, self.linear, tiles);
        let mut reader = Reader { cursor: self.cursor, linear: &products };
        Ok(Winograd { tiles, halves, columns, each, product: Box::new(reader.body()?) })
    }

    fn vector(&mut self) -> Result<Vector> {
        if self.cursor.eat("none") {
            return Ok(Vector::None);
        }
        let lanes = self.cursor.int()?;
        if self.cursor.eat("over") {
            return Ok(Vector::Reduction { var: self.var()?, lanes });
        }
        self.cursor.expect("of")?;
        Ok(Vector::Axis { var: self.var()?, lanes })
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![read(self)?];
        while self.cursor.eat(",") {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// `NUMBER of VAR`.
    fn of(&mut self) -> Result<(usize, u32)> {
        let number = self.cursor.int()?;
        self.cursor.expect("of")?;
        Ok((number, self.var()?))
    }

    fn var(&mut self) -> Result<u32> {
        let name = self.cursor.name("a variable")?;
        let found = self.linear.vars.iter().position(|v| v.name == name);
        found.map(|v| v as u32).ok_or_else(|| self.cursor.error(format!("no variable '{name}'")))
    }

    fn operand(&mut self) -> Result<u32> {
        let name = self.cursor.name("an operand")?;
        let number = name.strip_prefix("in").and_then(|n| n.parse().ok());
        number.ok_or_else(|| self.cursor.error(format!("'{name}' is no operand: those are in0, in1, ...")))
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "linear {} {{", write_name(&self.name))?;
        let var = |v: &LinearVar| {
            let size = v.size.as_ref().map_or(String::new(), |s| format!(" size {}", self.form(s)));
            format!("{} < {}{size}", write_name(&v.name), v.extent)
        };
        for (word, reduce) in [("axes", false), ("over", true)] {
            let vars: Vec<LinearVar> = self.vars.iter().filter(|v| v.reduce == reduce).cloned().collect();
            if !vars.is_empty() {
                writeln!(f, "  {word} {}", list(&vars, var))?;
            }
        }
        for (i, buffer) in self.buffers.iter().enumerate() {
            writeln!(f, "  read in{i}: {}", self.buffer(buffer))?;
        }
        writeln!(f, "  write out: {}", self.buffer(&self.output))?;
        let mut fold = self.fold;
        for (i, node) in self.nodes.iter().enumerate() {
            if *node == Node::Acc {
                self.write_fold(f, fold.take())?;
            }
            writeln!(f, "  %{i}: {} = {}", self.types[i], self.node(node))?;
        }
        self.write_fold(f, fold)?;
        for margin in &self.margins {
            writeln!(f, "  zero outside {} < {}", self.form(&margin.form), margin.extent)?;
        }
        self.write_facts(f)?;
        writeln!(f, "  store out[{}] = %{}\n}}", self.form(&self.store), self.finish)
    }
}

impl Linear {
    fn write_facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bounded) = self.facts.bounded {
            writeln!(f, "  bounded %{bounded}")?;
        }
        if let Some(Fixed { product, sum, factor, shift }) = self.facts.fixed {
            writeln!(f, "  fixed %{product} = %{sum} * %{factor} >> {}", 31 + shift)?;
        }
        if let Some(Placed { product, sum, factor, whole, .. }) = self.facts.placed {
            let zero = if whole { ", with the zero point" } else { "" };
            writeln!(f, "  placed %{product} = %{sum} * %{factor}{zero}")?;
        }
        if let Some(Pair { value, bytes: [x, y], factors: [a, b], offset, apart }) = self.facts.pair {
            let behind = if apart > 0 { ", behind it" } else { "" };
            writeln!(f, "  pair %{value} = %{x} * %{a} + %{y} * %{b} + %{offset}{behind}")?;
        }
        if let Some(Chains { var, lanes, counts, vectors, words, turns }) = self.facts.chains {
            let vector = format!("{lanes} of {}", write_name(&self.vars[var as usize].name));
            let counts = list(&counts, ToString::to_string);
            writeln!(f, "  chains {vectors} by {vector}: {counts}, {words} words turned {turns}")?;
        }
        let Facts { long, bytes, small_sums, .. } = self.facts;
        for (known, name) in [(long, "long"), (bytes, "bytes"), (small_sums, "small sums")] {
            if known {
                writeln!(f, "  {name}")?;
            }
        }
        if let Some(kept) = self.facts.kept {
            writeln!(f, "  kept {kept}")?;
        }
        if let Some(picked) = self.facts.picked {
            writeln!(f, "  rows picked of in{picked}")?;
        }
        if let Some(like) = self.facts.like {
            writeln!(f, "  packed {like}")?;
        }
        if self.facts.quads {
            writeln!(f, "  quads")?;
        }
        Ok(())
    }

    fn write_fold(&self, f: &mut fmt::Formatter<'_>, fold: Fold) -> fmt::Result {
        match fold {
            Some((op, dtype, body)) => writeln!(f, "  fold {} {dtype} %{body}", op.name()),
            None => Ok(()),
        }
    }

    fn buffer(&self, buffer: &Buffer) -> String {
        let constant = if buffer.constant { " constant" } else { "" };
        format!("{}[{}]{constant}", buffer.dtype, buffer.elems)
    }

    fn form(&self, form: &Affine) -> String {
        form.display(|v| self.vars.get(v as usize).map_or(format!("?{v}"), |v| write_name(&v.name)))
    }

    fn node(&self, node: &Node) -> String {
        let constant = |s: Scalar| elements::element(s.dtype, s.bits);
        match node {
            Node::Const(scalar) => format!("const {}", constant(*scalar)),
            Node::Index(form) => format!("index {}", self.form(form)),
            Node::Acc => "acc".to_string(),
            Node::Load { operand, addr, dynamic, guards, fill } => {
                let computed = |d: &DynamicIndex| format!(" + {}*%{}", d.stride, d.value);
                let computed: String = dynamic.iter().map(computed).collect();
                let affine = guards.iter().map(|g: &Guard| format!("{} < {}", self.form(&g.form), g.extent));
                let limits =
                    dynamic.iter().filter(|d| !d.inside).map(|d| format!("%{} < {}", d.value, d.extent));
                let conditions: Vec<String> = affine.chain(limits).collect();
                let when = match conditions.is_empty() {
                    true => String::new(),
                    false => format!(" where {}", conditions.join(", ")),
                };
                let fill = fill.map_or(String::new(), |f| format!(" else {}", constant(f)));
                format!("load in{operand}[{}{computed}]{when}{fill}", self.form(addr))
            }
            Node::Op(op, args) => format!("{} {}", op.name(), list(args, |a| format!("%{a}"))),
            Node::Cast { to, saturate, arg } => {
                format!("cast {to} {}%{arg}", if *saturate { "" } else { "overflow " })
            }
            Node::Bitcast { to, arg } => format!("bitcast {to} %{arg}"),
            Node::Lookup { operand, arg } => format!("lookup in{operand}, %{arg}"),
        }
    }
}

type Fold = Option<(crate::scalar::Fold, crate::base::DType, u32)>;

/// An internal error that shows a schedule with one of its faults.
pub(super) fn fault(schedule: &Schedule, linear: &Linear, reason: &str) -> Error {
    Error::bug(format!("{reason}\n{}", schedule.display(linear))).at(linear.name.clone())
}
