//! What the model computes from numbers of channels: shapes, and where parts begin.
//!
//! Exporters write such numbers as nodes (Shape, Gather, Div, Concat, ...). They need no rule of their own: the
//! thinned model is typed again, and where a value has another shape than its channels say, what the
//! numbers are taken from keeps its channels.

use super::follow::Followed;
use super::sets::{Kept, Pinned};
use crate::compress::observe::{Known, known_for};
use crate::compress::onnx::{Node, Onnx};
use crate::error::{Error, Result};
use crate::import;
use std::collections::{HashMap, HashSet};

/// A model before and after channels were removed.
pub struct Thinned {
    /// As it was.
    pub whole: Onnx,
    /// Without them.
    pub thin: Onnx,
    /// Where they were.
    pub found: Followed,
}

/// Inputs that only say what shape the result has, or which part is taken.
fn is_parameter(node: &Node, input: usize) -> bool {
    match node.op() {
        "Reshape" | "Split" | "Expand" | "Unsqueeze" | "Squeeze" => input == 1,
        "Slice" => input > 0,
        "Resize" => input >= 2,
        _ => false,
    }
}

/// The types of the thinned model; its inputs are those of the one that it was made of.
fn typed(onnx: &Onnx, known: &Known) -> Result<Known> {
    let model = import::decode(&onnx.encode()?, None)?;
    let types = model.body.inputs.iter().map(|input| {
        let found = known.get(&input.name).map(|fact| fact.0.clone());
        found.ok_or_else(|| Error::bug(format!("nothing is known of the input '{}'", input.name)))
    });
    let types = types.collect::<Result<Vec<_>>>()?;
    known_for(&model, &types)
}

/// What else has to keep its channels so that the thinned model computes what was meant, beside what is in
/// `pinned`; nothing where it does.
pub fn misfits(thinned: &Thinned, kept: &Kept, known: &Known, pinned: &Pinned) -> Result<Pinned> {
    let Thinned { whole, thin, found } = thinned;
    let place = Place { whole, found, known, pinned, writers: whole.writers() };
    let after = match typed(thin, known) {
        Ok(facts) => facts,
        Err(error) => {
            let shapes = whole.nodes.iter().filter(|n| n.op() == "Shape").filter_map(|n| n.input(0));
            let read: Pinned = shapes.filter_map(|n| place.pin(n, "shapes are computed from it")).collect();
            return if read.is_empty() { Err(error) } else { Ok(read) };
        }
    };
    let wrong = whole.nodes.iter().enumerate().find(|(i, n)| !place.fits(*i, n, kept, &after));
    let Some((_, node)) = wrong else { return Ok(Pinned::new()) };
    let why = format!("{} depends on how many there are", node.place());
    let all = || found.layouts.keys().map(String::as_str);
    let choices: [Vec<&str>; 3] =
        [place.counted(node), node.inputs.iter().map(String::as_str).collect(), all().collect()];
    let pins =
        choices.iter().map(|names| names.iter().filter_map(|n| place.pin(n, &why)).collect::<Pinned>());
    let first = pins.into_iter().find(|pins| !pins.is_empty());
    first.ok_or_else(|| Error::bug("removed channels do not fit, though all stay").at(node.place()))
}

/// The model before channels were removed.
struct Place<'a> {
    whole: &'a Onnx,
    found: &'a Followed,
    known: &'a Known,
    pinned: &'a Pinned,
    writers: HashMap<String, usize>,
}

impl Place<'_> {
    /// Keeps the channels of a value that has some and may lose them so far.
    fn pin(&self, value: &str, why: &str) -> Option<(String, String)> {
        let free = self.found.layouts.contains_key(value) && !self.pinned.contains_key(value);
        free.then(|| (value.to_string(), why.to_string()))
    }

    /// Whether a name is a constant that nodes compute.
    fn is_computed(&self, name: &str) -> bool {
        self.writers.contains_key(name) && self.known.get(name).is_some_and(|fact| fact.1.is_some())
    }

    /// Whether a node reads and makes in the thinned model what it should.
    fn fits(&self, index: usize, node: &Node, kept: &Kept, after: &Known) -> bool {
        let same_shape = |name: &String| {
            let (Some((old, _)), Some((new, _))) = (self.known.get(name), after.get(name)) else {
                return true;
            };
            let mut wanted = old.shape.clone();
            if let Some(layout) = self.found.layouts.get(name) {
                wanted[layout.axis] = kept.indices(&layout.segments).len();
            }
            wanted == new.shape
        };
        if !node.outputs.iter().all(same_shape) {
            return false;
        }
        // Numbers that go into numbers are judged where they are used.
        if node.op() == "Shape" || self.is_computed(node.output()) {
            return true;
        }
        let followed = self.found.layouts.contains_key(node.output());
        node.inputs.iter().enumerate().filter(|(_, name)| self.is_computed(name)).all(|(input, name)| {
            let of = |facts: &Known| facts.get(name).and_then(|fact| fact.1.as_ref()?.to_i64s());
            if followed && is_parameter(node, input) {
                let wanted = self.found.elements.iter().filter(|e| (e.node, e.input) == (index, input));
                return wanted.into_iter().all(|e| {
                    let is = of(after).and_then(|list| list.get(e.at).copied());
                    // Ends beyond the axis are limited by it.
                    is.is_none_or(|is| is == kept.indices(&e.segments).len() as i64 || is >= 1 << 30)
                });
            }
            let of = |facts: &Known| facts.get(name).and_then(|fact| fact.1.clone());
            of(self.known) == of(after)
        })
    }

    /// What the numbers that a node reads are computed from.
    fn counted<'n>(&'n self, node: &'n Node) -> Vec<&'n str> {
        let computed = |n: &&str| self.is_computed(n);
        let mut open: Vec<&str> = node.inputs.iter().map(String::as_str).filter(computed).collect();
        let (mut seen, mut sources) = (HashSet::new(), Vec::new());
        while let Some(name) = open.pop() {
            if seen.insert(name) {
                let read = self.whole.nodes[self.writers[name]].inputs.iter().map(String::as_str);
                let (numbers, values): (Vec<&str>, Vec<&str>) = read.partition(computed);
                open.extend(numbers);
                sources.extend(values);
            }
        }
        sources
    }
}
