//! Strings, as the numbers of words: what gives them, what moves them, what may not read them.
//!
//! Import numbers the strings of a model's constants (`import/words.rs`). Classifiers and LabelEncoders
//! give numbers of words where their labels are strings, encoders look them up in their lists; operators that
//! pick and move elements do so with numbers as well; equal strings have equal numbers. Anything else would read
//! the characters.
//! `tests/suite/classifiers.rs` has the forms that converters write.

use super::control::Bindings;
use super::{Binding, Driver};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs};
use crate::import::{SourceNode, UNKNOWN};

/// The inputs of an operator that may be strings, and whether its outputs then are.
struct Mover {
    domain: &'static str,
    op: &'static str,
    /// All inputs, where empty.
    at: &'static [usize],
    gives: bool,
}

const fn moves(op: &'static str) -> Mover {
    Mover { domain: "", op, at: &[0], gives: true }
}

const MOVERS: &[Mover] = &[
    moves("Reshape"),
    moves("Flatten"),
    moves("Squeeze"),
    moves("Unsqueeze"),
    moves("Transpose"),
    moves("Expand"),
    moves("Tile"),
    moves("Slice"),
    moves("Split"),
    moves("Gather"),
    moves("GatherElements"),
    moves("GatherND"),
    moves("Compress"),
    Mover { domain: "", op: "Concat", at: &[], gives: true },
    Mover { domain: "", op: "Where", at: &[1, 2], gives: true },
    Mover { domain: "", op: "Equal", at: &[], gives: false },
    Mover { domain: "", op: "Shape", at: &[0], gives: false },
    Mover { domain: "", op: "Size", at: &[0], gives: false },
    Mover { domain: "ai.onnx.ml", op: "ArrayFeatureExtractor", at: &[0], gives: true },
];

/// The name of a classifier's labels that are numbers.
fn label_numbers(node: &SourceNode) -> Option<&'static str> {
    match (node.domain.as_str(), node.op.as_str()) {
        ("ai.onnx.ml", "LinearClassifier" | "SVMClassifier") => Some("classlabels_ints"),
        ("ai.onnx.ml", "TreeEnsembleClassifier") => Some("classlabels_int64s"),
        _ => None,
    }
}

/// The list of strings in which a node looks its input up, and the name of that of numbers.
fn looked_up(node: &SourceNode) -> Option<(&'static str, &'static str)> {
    match (node.domain.as_str(), node.op.as_str()) {
        ("ai.onnx.ml", "OneHotEncoder") => Some(("cats_strings", "cats_int64s")),
        ("", "TfIdfVectorizer") => Some(("pool_strings", "pool_int64s")),
        _ => None,
    }
}

impl Driver {
    /// A node that gives or takes strings; `None` where it does neither.
    pub(super) fn words_node(&mut self, node: &SourceNode, inputs: &Bindings) -> Result<Option<Bindings>> {
        let is_words = |b: &Option<Binding>| matches!(b, Some(Binding::Words(_)));
        let reads = inputs.iter().any(is_words);
        let strings = |name: &str| match node.attrs.0.get(name) {
            Some(Attr::Strs(list)) if !list.is_empty() => Some(list.as_slice()),
            _ => None,
        };
        if let (Some(numbers), Some(list)) = (label_numbers(node), strings("classlabels_strings")) {
            let mut outputs = self.numbered(node, &[("classlabels_strings", numbers, list)], inputs)?;
            outputs.iter_mut().take(1).for_each(|o| *o = o.take().map(as_words));
            return Ok(Some(outputs));
        }
        let (keys, values) = (strings("keys_strings"), strings("values_strings"));
        if (node.domain.as_str(), node.op.as_str()) == ("ai.onnx.ml", "LabelEncoder")
            && (keys.is_some() || values.is_some())
        {
            if keys.is_some() != reads {
                return Err(Error::model("the keys are not of the input's type, one has strings"));
            }
            return self.string_encoder(node, keys, values, inputs).map(Some);
        }
        if !reads {
            return Ok(None);
        }
        if let Some((from, to)) = looked_up(node)
            && let Some(list) = strings(from)
        {
            return self.numbered(node, &[(from, to, list)], inputs).map(Some);
        }
        if node.domain.is_empty() && node.op == "Cast" && node.attrs.int("to", 0)? == 8 {
            return Ok(Some(inputs.clone()));
        }
        let mover = MOVERS.iter().find(|m| (m.domain, m.op) == (node.domain.as_str(), node.op.as_str()));
        let refused = || {
            Error::model("takes strings, which are not supported here").advise(
                "Strings may be looked up in lists, compared, picked and given back: do in the application what this \
                 node does, and cut the model behind it, or before it",
            )
        };
        let mover = mover.ok_or_else(refused)?;
        let fits = |(i, b)| is_words(b) == (mover.at.is_empty() || mover.at.contains(&i));
        if !inputs.iter().enumerate().all(fits) {
            return Err(refused());
        }
        let mut outputs = self.plain_node(node, plain(inputs)?)?;
        if mover.gives {
            outputs.iter_mut().for_each(|o| *o = o.take().map(as_words));
        }
        Ok(Some(outputs))
    }

    /// A LabelEncoder with strings on one side or both.
    fn string_encoder(
        &mut self,
        node: &SourceNode,
        keys: Option<&[String]>,
        values: Option<&[String]>,
        inputs: &Bindings,
    ) -> Result<Bindings> {
        let mut lists = Vec::new();
        lists.extend(keys.map(|list| ("keys_strings", "keys_int64s", list)));
        lists.extend(values.map(|list| ("values_strings", "values_int64s", list)));
        if values.is_none() {
            return self.numbered(node, &lists, inputs);
        }
        let default = match (node.attrs.0.get("default_string"), node.attrs.0.get("default_strings")) {
            (Some(Attr::Str(word)), _) => self.words.number(word),
            (_, Some(Attr::Strs(list))) => list.first().map_or(-1, |word| self.words.number(word)),
            _ => self.words.number(UNKNOWN),
        };
        let mut node = node.clone();
        node.attrs.set("default_int64", Attr::Int(default));
        let outputs = self.numbered(&node, &lists, inputs)?;
        Ok(outputs.into_iter().map(|o| o.map(as_words)).collect())
    }

    /// The node with lists of strings as lists of numbers: from, to, and the strings.
    fn numbered(
        &mut self,
        node: &SourceNode,
        lists: &[(&str, &str, &[String])],
        inputs: &Bindings,
    ) -> Result<Bindings> {
        let mut attrs: Attrs = node.attrs.clone();
        for (from, to, words) in lists {
            attrs.0.remove(*from);
            attrs.set(to, Attr::Ints(words.iter().map(|w| self.words.number(w)).collect()));
        }
        let node = SourceNode { attrs, ..node.clone() };
        self.plain_node(&node, plain(inputs)?)
    }
}

fn as_words(binding: Binding) -> Binding {
    match binding {
        Binding::Value(id) => Binding::Words(id),
        other => other,
    }
}

/// All inputs as tensors, words as their numbers.
fn plain(inputs: &Bindings) -> Result<Vec<Option<crate::graph::ValueId>>> {
    let number = |b: &Option<Binding>| match b {
        Some(Binding::Words(id)) => Some(Binding::Value(*id)),
        other => other.clone(),
    };
    super::values(&inputs.iter().map(number).collect::<Vec<_>>())
}
