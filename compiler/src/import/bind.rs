//! Free dimensions: bound by options or data, or to 1 where they are a batch.
//!
//! A free dimension is a batch, and becomes 1 with a note, when it stands only in first place
//! and is named like one, or is the only one left, or one of several that an exporter has numbered. Any other must be
//! given.

use super::{Body, Declared, Dim};
use crate::base::TensorType;
use crate::error::{Error, FILE_ADVICE, Result};
use crate::graph::check_size;
use std::collections::{BTreeMap, BTreeSet};

/// Sizes given for free dimensions.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// By the name of the dimension (`--dim NAME=N`).
    pub dims: BTreeMap<String, usize>,
    /// Bounds of dimensions left to run time, by name (`--dim NAME<=N`).
    pub bounds: BTreeMap<String, usize>,
    /// Which of these may be 0, too (`--dim '0<=NAME<=N'`).
    pub empty: BTreeSet<String>,
    /// By the name of the input: its whole shape (`--input NAME=1x3x224x224`, or from data).
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// By the name of the input: names and sizes of its dimensions (`--input NAME=batch,total`).
    pub named: BTreeMap<String, Vec<Dim>>,
    /// By the name of an input that is the condition of an If: which branch is compiled (`--input NAME=true`).
    pub branches: BTreeMap<String, bool>,
    /// Dimensions whose size in `shapes` does not count.
    pub left: BTreeSet<String>,
    /// Dimensions that are sums of others (`--dim NAME=OTHER+1`, `--dim NAME=32*K`), or are named like one.
    pub sums: BTreeMap<String, Sum>,
    /// Dimensions that are others by another name (`--dim NAME=OTHER`).
    pub equal: BTreeMap<String, String>,
    /// Bounds of numbers that the model computes, by the names of values: [`Bindings::complete`] tells them from
    /// dimensions.
    pub numbers: BTreeMap<String, usize>,
}

/// What an option names is no dimension.
pub(super) fn no_dimension(name: &str) -> Error {
    Error::options(format!("no input has a free dimension named '{name}'"))
        .advise("Give a number, a bound, as in 'seq<=128', the sum of named dimensions and numbers, as in total=past+1, or multiples of what has a bound, as in height=32*k")
        .at("--dim")
}

/// A dimension as the sum of multiples of others and a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// The names of the others, and how often each is added.
    pub of: Vec<(String, usize)>,
    /// The number.
    pub number: usize,
}

impl Sum {
    /// `past + 1`, `past_sequence_length + sequence_length`, `32*k`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Sum> {
        let mut sum = Sum { of: Vec::new(), number: 0 };
        for term in text.split('+').map(str::trim) {
            let factors: Vec<&str> = term.split('*').map(str::trim).collect();
            let (mut times, mut of) = (1usize, None);
            for factor in factors {
                let word = |c: char| c.is_alphanumeric() || "_.-/:".contains(c);
                match factor.parse::<usize>() {
                    Ok(number) => times = times.checked_mul(number)?,
                    Err(_) if of.is_none() && !factor.is_empty() && factor.chars().all(word) => {
                        of = Some(factor.to_string());
                    }
                    Err(_) => return None,
                }
            }
            match of {
                Some(name) if times > 0 => sum.of.push((name, times)),
                Some(_) => {}
                None => sum.number = sum.number.checked_add(times)?,
            }
        }
        (!sum.of.is_empty()).then_some(sum)
    }

    fn has(&self, name: &String) -> bool {
        self.of.iter().any(|(of, _)| of == name)
    }

    /// The one dimension that it is, where it is no more than that.
    pub fn other_name(&self) -> Option<&str> {
        match self.of.as_slice() {
            [(name, 1)] if self.number == 0 => Some(name),
            _ => None,
        }
    }

    fn is_computed(&self) -> bool {
        self.other_name().is_none()
    }

    /// Its size, where the sizes of all terms are known.
    pub fn at(&self, size: impl Fn(&str) -> Option<usize>) -> Option<usize> {
        self.of
            .iter()
            .try_fold(self.number, |sum, (name, times)| sum.checked_add(times.checked_mul(size(name)?)?))
    }
}

/// A free dimension: its name, or the input and axis where it has none.
type Key = (String, Option<usize>);

fn key(input: &Declared, axis: usize, name: &Option<String>) -> Key {
    match name {
        Some(name) => (name.clone(), None),
        None => (input.name.clone(), Some(axis)),
    }
}

impl Bindings {
    /// For some sizes of the dimensions that are no sums, those of all.
    pub fn with_sums(&self, mut sizes: BTreeMap<String, usize>) -> Result<BTreeMap<String, usize>> {
        for (name, sum) in &self.sums {
            let size = sum.at(|n| sizes.get(n).or_else(|| self.dims.get(n)).copied());
            let unknown =
                || Error::options(format!("'{name}' is the sum of what is no dimension")).at("--dim");
            let size = size.ok_or_else(unknown)?;
            sizes.insert(name.clone(), size);
        }
        Ok(sizes)
    }

    /// The bindings with sizes in place of the bounds.
    pub fn at(&self, sizes: &BTreeMap<String, usize>) -> Bindings {
        let mut fixed = Bindings { bounds: BTreeMap::new(), ..self.clone() };
        fixed.dims.extend(sizes.iter().map(|(name, &size)| (name.clone(), size)));
        // Shapes that data or options gave say nothing more of these.
        for name in sizes.keys() {
            fixed.left.insert(name.clone());
        }
        fixed
    }

    /// The same, with the sizes and bounds of dimensions that are sums. A dimension whose name says what it
    /// is the sum of needs no option; sums of what is no dimension are errors.
    pub fn complete(&self, body: &Body) -> Result<Bindings> {
        self.check_sums(body)?;
        let mut all = self.clone();
        let computed = self.bounds.keys().filter(|name| self.is_computed(body, name)).cloned();
        for name in computed.collect::<Vec<_>>() {
            all.empty.remove(&name);
            all.numbers.extend(all.bounds.remove_entry(&name));
        }
        for name in free_dims(body).filter_map(|(_, _, name)| name.as_ref()) {
            if let Some(sum) = Sum::parse(name).filter(Sum::is_computed) {
                all.sums.entry(name.clone()).or_insert(sum);
            }
        }
        let bound = |n: &str| self.dims.get(n).or_else(|| self.bounds.get(n)).copied();
        all.sums.retain(|name, sum| {
            !self.dims.contains_key(name) && self.bounds.get(name).is_none_or(|&n| sum.at(bound) == Some(n))
        });
        for (name, sum) in &all.sums {
            let bound = |n: &str| all.dims.get(n).or_else(|| all.bounds.get(n)).copied();
            match (sum.at(|n| all.dims.get(n).copied()), sum.at(bound)) {
                (Some(size), _) => all.dims.insert(name.clone(), size),
                (None, Some(most)) => all.bounds.insert(name.clone(), most),
                _ => None,
            };
        }
        let bounds = &all.bounds;
        all.sums.retain(|name, _| bounds.contains_key(name));
        Ok(all)
    }

    /// What is no dimension of an input, but one is a multiple of it and nothing else is: by its name, that
    /// dimension's, the factor and the rest.
    pub fn hidden(&self, body: &Body) -> BTreeMap<String, (String, usize, usize)> {
        let hidden = |name: &String| {
            let mut users = self.sums.iter().filter(|(_, sum)| sum.of.iter().any(|(n, _)| n == name));
            match (users.next(), users.next()) {
                (Some((by, Sum { of, number })), None) if of.len() == 1 => {
                    Some((by.clone(), of[0].1, *number))
                }
                _ => None,
            }
        };
        let is_free = |name: &String| free_dims(body).any(|(_, _, n)| n.as_ref() == Some(name));
        let inner = self.bounds.keys().filter(|name| !is_free(name));
        inner.filter_map(|name| Some((name.clone(), hidden(name)?))).collect()
    }

    /// The types of the graph's inputs, and notes on what was assumed.
    pub fn resolve(&self, body: &Body) -> Result<(Vec<TensorType>, Vec<String>)> {
        self.complete(body)?.resolve_all(body)
    }

    /// Whether a name is that of a value which the model computes or takes, and of no dimension.
    fn is_computed(&self, body: &Body, name: &String) -> bool {
        let free = free_dims(body).filter_map(|(_, _, n)| n.as_ref());
        let is_dim = free.into_iter().any(|n| n == name || Sum::parse(n).is_some_and(|s| s.has(name)));
        let is_value = body.computes(name) || body.inputs.iter().any(|input| input.name == *name);
        !is_dim && !self.sums.values().any(|sum| sum.has(name)) && is_value
    }

    /// Whether a name is that of a free dimension, or of one that options add.
    pub(super) fn is_known(&self, body: &Body, name: &String) -> bool {
        let is_free = free_dims(body).any(|(_, _, n)| n.as_ref() == Some(name));
        is_free || self.dims.contains_key(name) || self.bounds.contains_key(name)
    }

    /// Sums of what is no dimension are errors.
    fn check_sums(&self, body: &Body) -> Result<()> {
        let is_free = |name: &String| free_dims(body).any(|(_, _, n)| n.as_ref() == Some(name));
        let known = |name: &&String| self.is_known(body, name);
        let terms = self.sums.values().flat_map(|sum| sum.of.iter().map(|(name, _)| name));
        let sums = self.sums.keys().filter(|name| !is_free(name));
        let mut named = sums.chain(terms.filter(|name| !known(name)));
        let Some(unknown) = named.next() else { return Ok(()) };
        Err(no_dimension(unknown))
    }

    /// The sizes and bounds of dimensions, and notes on what was assumed.
    fn sizes(&self, body: &Body) -> Result<(BTreeMap<Key, usize>, Vec<String>)> {
        self.check_options(body)?;
        let named = self.dims.iter().chain(&self.bounds);
        let mut sizes: BTreeMap<Key, usize> = named.map(|(name, &n)| ((name.clone(), None), n)).collect();
        for input in &body.inputs {
            self.take_shape(input, &mut sizes)?;
        }
        let mut notes = Vec::new();
        for key in batches(body, &sizes) {
            notes.push(format!("dimension {} is taken as a batch of 1", show(&key)));
            sizes.insert(key, 1);
        }
        Ok((sizes, notes))
    }

    fn resolve_all(&self, body: &Body) -> Result<(Vec<TensorType>, Vec<String>)> {
        let (sizes, notes) = self.sizes(body)?;
        let mut free = BTreeSet::new();
        let mut types = Vec::new();
        for input in &body.inputs {
            let dtype = input.dtype.filter(|_| input.is_tensor).ok_or_else(|| {
                Error::model("is not a tensor of numbers; sequences, maps and optionals are not supported")
                    .at(format!("input '{}'", input.name))
            })?;
            let Some(dims) = &input.dims else {
                match self.shapes.get(&input.name) {
                    Some(shape) => types.push(TensorType::new(dtype, shape.clone())),
                    None => {
                        free.insert((input.name.clone(), Some(usize::MAX)));
                    }
                }
                continue;
            };
            let mut shape = Vec::new();
            for (axis, dim) in dims.iter().enumerate() {
                match dim {
                    Dim::Fixed(n) => shape.push(*n),
                    Dim::Free(name) => match sizes.get(&key(input, axis, name)) {
                        Some(&n) => shape.push(n),
                        None => {
                            free.insert(key(input, axis, name));
                        }
                    },
                }
            }
            types.push(TensorType::new(dtype, shape));
        }
        if !free.is_empty() {
            return Err(unbound(body, &free));
        }
        for (input, ty) in body.inputs.iter().zip(&types) {
            check_size(ty).map_err(|e| e.or_advise(FILE_ADVICE).at(format!("input '{}'", input.name)))?;
        }
        Ok((types, notes))
    }

    /// The inputs with those dimensions fixed that have a size or are taken as a batch.
    pub fn declared(&self, body: &Body) -> Result<Vec<Declared>> {
        let all = self.complete(body)?;
        let (mut sizes, _) = all.sizes(body)?;
        sizes.retain(|key, _| !all.bounds.contains_key(&key.0));
        let fixed = |input: &Declared| {
            let mut input = input.clone();
            let dims = input.dims.take();
            let one = |(axis, dim)| match dim {
                Dim::Free(name) => match sizes.get(&key(&input, axis, &name)) {
                    Some(&size) => Dim::Fixed(size),
                    None => Dim::Free(name),
                },
                fixed => fixed,
            };
            let dims = dims.map(|dims| dims.into_iter().enumerate().map(one).collect());
            Declared { dims, ..input }
        };
        Ok(body.inputs.iter().map(fixed).collect())
    }

    /// Options that name nothing in the model are errors.
    fn check_options(&self, body: &Body) -> Result<()> {
        let mut names: BTreeSet<&str> =
            free_dims(body).filter_map(|(_, _, n)| n.as_ref().map(String::as_str)).collect();
        let terms: Vec<Sum> = names.iter().filter_map(|n| Sum::parse(n)).collect();
        names.extend(
            terms.iter().chain(self.sums.values()).flat_map(|s| &s.of).map(|(name, _)| name.as_str()),
        );
        if let Some(name) = self.dims.keys().find(|d| self.bounds.contains_key(*d)) {
            let reason = format!("dimension '{name}' is given a size and a bound");
            return Err(Error::options(reason).advise("Give one of them").at("--dim"));
        }
        let mut given = self.dims.keys().chain(self.bounds.keys());
        if let Some(name) = given.find(|d| !names.contains(d.as_str()) && !self.left.contains(*d)) {
            let known: Vec<_> = names.into_iter().collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            return Err(Error::options(format!("no input has a free dimension named '{name}'"))
                .advise(format!("Named free dimensions of this model: {known}"))
                .at("--dim"));
        }
        self.shapes.keys().try_for_each(|name| input(body, name).map(|_| ()))?;
        self.check_branches(body)
    }

    /// Choices of branches that nothing in the model leaves are errors.
    pub fn check_branches(&self, body: &Body) -> Result<()> {
        self.branches.keys().try_for_each(|name| input(body, name).map(|_| ()))?;
        let decides =
            |name: &String| body.nodes.iter().any(|n| n.op == "If" && n.inputs.first() == Some(name));
        if let Some(name) = self.branches.keys().find(|n| !decides(n)) {
            let reason = format!("'{name}' is not the condition of an If, and true or false is no shape");
            return Err(Error::options(reason).advise("Write --input NAME=AxBxC").at("--input"));
        }
        Ok(())
    }

    /// Binds the dimensions of one input to the shape given for it.
    fn take_shape(&self, input: &Declared, sizes: &mut BTreeMap<Key, usize>) -> Result<()> {
        let (Some(shape), Some(dims)) = (self.shapes.get(&input.name), &input.dims) else { return Ok(()) };
        let wrong = |reason: String| {
            Err(Error::options(reason)
                .advise("lmc inspect shows the shapes of the inputs")
                .at(format!("the shape given for input '{}'", input.name)))
        };
        if shape.len() != dims.len() {
            return wrong(format!("it has rank {}, the model's input {}", shape.len(), dims.len()));
        }
        for (axis, (&given, dim)) in shape.iter().zip(dims).enumerate() {
            match dim {
                Dim::Fixed(n) if *n != given => {
                    return wrong(format!("dimension {axis} is {given}, but the model fixes it at {n}"));
                }
                Dim::Fixed(_) => {}
                Dim::Free(Some(name)) if self.left.contains(name) => {}
                Dim::Free(Some(name)) if self.bounds.contains_key(name) => {
                    let bound = self.bounds[name];
                    if given > bound || (given == 0 && !self.empty.contains(name)) {
                        let advice = match given {
                            0 => format!("Say that it may be nothing: --dim '0<={name}<={bound}'"),
                            _ => format!("Give a larger bound: --dim '{name}<={given}'"),
                        };
                        return wrong(format!("dimension '{name}' is {given}, its bound {bound}"))
                            .map_err(|e| e.advise(advice));
                    }
                }
                Dim::Free(name) => {
                    let before = sizes.insert(key(input, axis, name), given);
                    if let Some(before) = before.filter(|&b| b != given) {
                        let name = name.as_deref().unwrap_or("");
                        return wrong(format!("dimension '{name}' is {given} here and {before} elsewhere")).map_err(
                            |e| {
                                e.advise(
                                    "One name is one size: if the model takes both, give the dimensions names of their \
                                     own, as in --input NAME=batch,total",
                                )
                            },
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// The number of the input of a name, as options give it.
pub(super) fn input(body: &Body, name: &str) -> Result<usize> {
    let known: Vec<&str> = body.inputs.iter().map(|i| i.name.as_str()).collect();
    known.iter().position(|n| *n == name).ok_or_else(|| {
        Error::options(format!("the model has no input named '{name}'"))
            .advise(format!("Its inputs: {}", known.join(", ")))
            .at("--input")
    })
}

/// All free dimensions of the inputs: input, axis, name.
fn free_dims(body: &Body) -> impl Iterator<Item = (&Declared, usize, &Option<String>)> {
    body.inputs.iter().flat_map(|input| {
        input.dims.iter().flatten().enumerate().filter_map(move |(axis, dim)| match dim {
            Dim::Free(name) => Some((input, axis, name)),
            Dim::Fixed(_) => None,
        })
    })
}

/// The unbound dimensions that are taken for a batch.
fn batches(body: &Body, sizes: &BTreeMap<Key, usize>) -> Vec<Key> {
    let mut axes: BTreeMap<Key, BTreeSet<usize>> = BTreeMap::new();
    for (input, axis, name) in free_dims(body) {
        axes.entry(key(input, axis, name)).or_default().insert(axis);
    }
    axes.retain(|key, _| !sizes.contains_key(key));
    let leading: Vec<Key> =
        axes.iter().filter(|(_, a)| a.iter().all(|&a| a == 0)).map(|(k, _)| k.clone()).collect();
    let names = leading.iter().filter(|k| k.1.is_none()).map(|k| unnumbered(&k.0));
    let only = axes.len() == leading.len() && names.collect::<BTreeSet<_>>().len() <= 1;
    let named = |key: &Key| {
        let name = key.0.to_lowercase();
        key.1.is_none() && (name.contains("batch") || ["n", "b", "bs"].contains(&name.as_str()))
    };
    leading.into_iter().filter(|k| only || named(k)).collect()
}

/// A name without the number at its end: exporters number the dimensions that have none of their own (`unk__17`).
fn unnumbered(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn show(key: &Key) -> String {
    match key {
        (name, None) => format!("'{name}'"),
        (input, Some(axis)) => format!("{axis} of input '{input}'"),
    }
}

/// Lists the free dimensions and the options that bind them.
fn unbound(body: &Body, free: &BTreeSet<Key>) -> Error {
    let list: Vec<String> = free
        .iter()
        .map(|key| match key {
            (input, Some(usize::MAX)) => format!("the shape of input '{input}'"),
            key => show(key),
        })
        .collect();
    let unnamed = |input: &Declared| free.iter().any(|k| k.1.is_some() && k.0 == input.name);
    let mut options = Vec::new();
    for input in body.inputs.iter().filter(|i| unnamed(i)) {
        options.push(format!(
            "--input {}={}",
            input.name,
            input.dims.as_ref().map_or("AxBxC".into(), |d| pattern(d))
        ));
    }
    let covered: BTreeSet<&String> =
        free_dims(body).filter(|(i, _, _)| unnamed(i)).filter_map(|(_, _, n)| n.as_ref()).collect();
    let named = free.iter().filter(|k| k.1.is_none() && !covered.contains(&k.0));
    options.extend(named.map(|(name, _)| format!("--dim {name}=N")));
    let name = free.iter().find(|k| k.1.is_none()).map(|k| &k.0);
    let bound = match (name, body.inputs.iter().find(|i| unnamed(i))) {
        (Some(name), _) => {
            format!(", or leave what has a name to run time, up to a bound, as in --dim '{name}<=128'")
        }
        (None, Some(input)) => format!(
            ", or name them, as in --input {}={}, and leave them to run time, up to bounds: --dim 'a<=128'",
            input.name,
            input.dims.as_ref().map_or("a,b".into(), |d| lettered(d))
        ),
        (None, None) => String::new(),
    };
    Error::options(format!("free dimensions are unbound: {}", list.join(", ")))
        .advise(format!("Bind them with {}{bound}", options.join(" ")))
}

/// The dimensions, with letters for names.
fn lettered(dims: &[Dim]) -> String {
    let mut letters = ('a'..='z').cycle();
    let text = |d: &Dim| match d {
        Dim::Fixed(n) => n.to_string(),
        Dim::Free(_) => letters.next().map(String::from).unwrap_or_default(),
    };
    dims.iter().map(text).collect::<Vec<_>>().join(",")
}

fn pattern(dims: &[Dim]) -> String {
    let text = |d: &Dim| match d {
        Dim::Fixed(n) => n.to_string(),
        Dim::Free(_) => "N".to_string(),
    };
    dims.iter().map(text).collect::<Vec<_>>().join("x")
}
