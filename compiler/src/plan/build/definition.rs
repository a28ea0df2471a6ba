//! A definition as a step: what is known of its numbers, its kernel, and the kernel's arguments.

use super::Planner;
use crate::base::abi;
use crate::definition::{Definition, Expr, Operand, ValueId};
use crate::error::Result;
use crate::nest::{
    Formed, Nested, PackedRows, bounded, bytes, chains, fix, kept, long, nest, pair, place, scaled,
    small_sums,
};
use crate::plan::draft::{Draft, Place};
use crate::plan::grouped::{in_phases_if_filtered, of_operands};
use crate::plan::known::{know, measure};
use crate::plan::overrun::ends_exactly;
use crate::plan::packed::Part;
use crate::plan::widened::widened;
use crate::scalar::{Fold, Op};
use crate::schedule::choose::places;
use crate::schedule::linear::{Known, Layout, Linear, Node};
use crate::schedule::{Prefer, QUAD, in_quads, in_runs, requantizes_fixed};
use std::collections::HashMap;

impl Planner<'_> {
    /// What constants, by operand, tell a definition about how its numbers can be computed; with the bytes that take the
    /// place of some of them, and the chains that their words form.
    fn tell_constants<'d>(
        &self,
        linear: &mut Linear,
        data: &impl Fn(usize) -> Option<&'d [u8]>,
    ) -> (HashMap<u32, Vec<u8>>, Option<Formed>) {
        let (target, data) = (self.request.target, |operand: u32| data(operand as usize));
        linear.facts.bounded = bounded(linear, data);
        let fixed = requantizes_fixed(target).then(|| fix(linear, data)).flatten();
        let pairs = target.fma && linear.facts.fixed.is_none();
        let paired = pairs.then(|| pair(linear, data)).flatten();
        let formed = chains(linear, target, data);
        linear.facts.chains = formed.as_ref().map(|f| f.chains);
        linear.facts.bytes = bytes(linear, target);
        linear.facts.long = long(linear, target, data);
        linear.facts.small_sums = small_sums(linear, data);
        linear.facts.kept = kept(linear, data);
        let placed = place(linear, data, |linear| places(linear, target));
        let new = fixed.into_iter().chain(paired.into_iter().flatten()).chain(placed.into_iter().flatten());
        (new.collect(), formed)
    }

    /// Constants, by operand, whose elements others take the place of.
    fn remade<'d>(
        &self,
        linear: &mut Linear,
        data: &impl Fn(usize) -> Option<&'d [u8]>,
    ) -> HashMap<u32, Vec<u8>> {
        let data = |operand: u32| data(operand as usize);
        let runs = in_runs(linear, self.request.target, data);
        let mut remade = scaled(linear, data);
        remade.extend(runs);
        if self.request.prefer == Prefer::Speed {
            remade.extend(widened(linear, self.times, data));
        }
        remade.into_iter().collect()
    }

    pub(super) fn definition(&mut self, def: &Definition, dying: &[ValueId]) -> Result<Option<Draft>> {
        if def.vars[..def.axes].iter().any(|v| v.extent == 0) {
            return Ok(None);
        }
        let values = &self.request.lowering.values;
        let constant = self.constants(def);
        let mut linear = self.linear(def);
        let read = |operand: usize| def.operands[operand].value;
        self.ranges.tell(&mut linear, read);
        self.ranges.learn(def.output.value, &linear, read);
        let work = self.times.saturating_mul(multiply_adds(def));
        self.macs = self.macs.saturating_add(work);
        self.share(def, &linear, dying);
        let own: Vec<bool> = def.operands.iter().map(|o| o.value == def.output.value).collect();
        let known: Vec<bool> = def.operands.iter().map(|o| self.is_written(o)).collect();
        let starts = linear.take_starts(&own, &known);
        let begin = |i: usize| starts.operands[i] * def.operands[i].ty.dtype.size();
        let given = |i: usize| {
            let constant = values[def.operands[i].value as usize].constant.as_ref();
            constant.map(|t| &t.data[begin(i)..])
        };
        let remade = self.remade(&mut linear, &given);
        remade.iter().for_each(|(&operand, bytes)| measure(&mut linear, operand, bytes));
        let data = |i: usize| remade.get(&(i as u32)).map(Vec::as_slice).or_else(|| given(i));
        let (mut other, mut formed) = self.tell_constants(&mut linear, &data);
        let written = self.place(def.output.value).moved(starts.output * def.output.ty.dtype.size());
        let read = (0..def.operands.len()).map(|i| self.place(def.operands[i].value).moved(begin(i)));
        if !constant.contains(&true) && read.chain([written.clone()]).all(|p| p.is_aligned(QUAD)) {
            in_quads(&mut linear);
        }
        let mut linear = in_phases_if_filtered(linear, self.request.choose)?;
        let part = |linear: &Linear, i: usize| {
            Part::of(linear, i as u32, (def.operands[i].value, starts.operands[i])).filter(|_| constant[i])
        };
        linear.facts.like = (0..def.operands.len()).find_map(|i| self.leads.like(&part(&linear, i)?, work));
        let (nested, like) = self.kernels.nest_packed(&linear)?;
        let mut args = Vec::new();
        for (i, operand) in def.operands.iter().enumerate() {
            let other = other.remove(&(i as u32)).or_else(|| remade.get(&(i as u32)).cloned());
            let chained = nested.packed_chains(i as u32, &mut formed);
            let elements = other.as_deref().or(data(i));
            let packed = chained.or_else(|| elements.and_then(|d| nested.packed(&linear, i as u32, d)));
            args.push(match packed.or(other) {
                Some(bytes) => {
                    let (part, size) = (part(&linear, i), bytes.len());
                    let buffer = self.buffers.constant(&values[operand.value as usize].name, bytes);
                    self.packed.add(part, work, (buffer, size), like);
                    Place::start(buffer)
                }
                None => self.place(operand.value).moved(begin(i)),
            });
        }
        args.push(written);
        args.extend(self.beside(&nested));
        self.fills(def);
        self.named.insert(self.buffers.now(), def.name.clone());
        Ok(Some(self.call(&nested.kernel, args)))
    }

    /// Remembers a value all of which a definition writes.
    fn fills(&mut self, def: &Definition) {
        let points: usize = def.vars[..def.axes].iter().map(|v| v.extent).product();
        if !def.has_sizes() && points == def.output.ty.elems() {
            self.filled.insert(def.output.value);
        }
    }

    /// What a kernel has behind its output: memory of its own, and sizes.
    fn beside(&mut self, nested: &Nested) -> Vec<Place> {
        let bytes = Some(nested.between * size_of::<f32>()).filter(|&bytes| bytes > 0);
        let between = bytes.map(|bytes| Place::start(self.buffers.add(None, bytes)));
        let sizes = nested.sizes.iter().map(|&n| self.place(self.request.lowering.sizes[n].value));
        between.into_iter().chain(sizes).collect()
    }

    /// Which operands of a definition are constants.
    fn constants(&self, def: &Definition) -> Vec<bool> {
        let values = &self.request.lowering.values;
        def.operands.iter().map(|o| values[o.value as usize].constant.is_some()).collect()
    }

    /// Where a definition that packs a table by rows has them, and what it reads then; `None` where it does not.
    pub(super) fn rows(&self, def: &Definition, operand: u32) -> Result<Option<(PackedRows, Vec<u8>)>> {
        let mut linear = self.linear(def);
        linear.facts.picked = Some(operand);
        let schedule = (self.request.choose)(&linear)?;
        let nested = nest(&linear, &schedule, self.request.target.fma, abi::ERR_INDEX)?;
        let value = def.operands[operand as usize].value;
        let table = self.request.lowering.values[value as usize].constant.as_ref();
        let bytes = table.and_then(|t| nested.packed(&linear, operand, &t.data));
        Ok(nested.packed_rows(operand).zip(bytes))
    }

    /// The linear form of a definition. Where others have written parts of the same value, nothing may be written past
    /// the part.
    fn linear(&self, def: &Definition) -> Linear {
        let mut linear = self.sized_linear(def);
        let value = |operand: u32| def.operands[operand as usize].value as usize;
        know(&mut linear, |operand| self.request.lowering.values[value(operand)].constant.as_ref());
        let table = |o: &Operand| self.tables.contains(&o.value);
        linear.facts.picked = def.operands.iter().position(table).map(|operand| operand as u32);
        linear
    }

    fn sized_linear(&self, def: &Definition) -> Linear {
        let layouts: Vec<Layout> = def.operands.iter().map(|o| self.layout(o.value).clone()).collect();
        let output = self.layout(def.output.value);
        let dims = &self.request.lowering.dims;
        let sized = def.has_sizes() || def.operands.iter().any(|o| dims.contains_key(&o.value));
        let exact = sized && ends_exactly(def, &self.writers);
        let dims = if sized { of_operands(def, dims) } else { Vec::new() };
        let nonzero = if sized { Vec::new() } else { of_operands(def, &self.nonzero) };
        let known = Known { dims: &dims, exact, nonzero: &nonzero };
        let linear = Linear::knowing(def, &layouts, &self.constants(def), output, &known);
        Linear { compact: self.request.prefer == Prefer::Size, ..linear }
    }

    /// Whether all bytes of an operand have been written.
    fn is_written(&self, operand: &Operand) -> bool {
        // Rows that share their rims take less than one place per element.
        let dense = self.layout(operand.value).span(&operand.ty.shape) <= operand.ty.elems();
        let whole = |v: &ValueId| self.wholes.get(v).copied();
        dense
            && std::iter::successors(Some(operand.value), whole).any(|value| {
                let given = self.request.inputs.iter().any(|i| i.0 == value);
                let writers = self.writers.get(&value).map(Vec::len);
                let all = writers.is_some() && writers == self.written.get(&value).copied();
                given || all || self.filled.contains(&value)
            })
    }

    /// Writes the output over an operand that dies here and is read only where it is written.
    fn share(&mut self, def: &Definition, linear: &Linear, dying: &[ValueId]) {
        let out = self.place(def.output.value);
        if !out.is_start() || !self.buffers.is_unused(out.buffer) {
            return;
        }
        for (i, operand) in def.operands.iter().enumerate() {
            let place = self.place(operand.value);
            let same_size = operand.ty.dtype.size() == def.output.ty.dtype.size();
            let ends = place.is_start() && same_size && dying.contains(&operand.value);
            if ends && read_in_place(linear, i as u32) && self.buffers.merge(place.buffer, out.buffer) {
                return;
            }
        }
    }
}

/// Whether an operand is read only in `finish`, at the place that is written.
fn read_in_place(linear: &Linear, operand: u32) -> bool {
    let folded = linear.fold.map(|f| linear.reachable(f.2)).unwrap_or_default();
    linear.nodes.iter().enumerate().all(|(e, node)| match node {
        Node::Load { operand: o, addr, dynamic, guards, .. } if *o == operand => {
            *addr == linear.store && dynamic.is_empty() && guards.is_empty() && !folded.contains(&(e as u32))
        }
        _ => true,
    })
}

/// Multiply-adds of a definition.
fn multiply_adds(def: &Definition) -> u64 {
    match &def.fold {
        Some(f) if f.op == Fold::Sum && matches!(def.exprs[f.body as usize], Expr::Op(Op::Mul, _)) => {
            def.volume()
        }
        _ => 0,
    }
}
