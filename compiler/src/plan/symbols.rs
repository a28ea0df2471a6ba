//! Dimensions known only at run time as the application sees them, and the kernel that refuses other sizes
//! before anything else runs.

use crate::base::{Affine, DType, abi, gcd};
use crate::definition::Size;
use crate::tile::{Access, Addr, Bin, Cmp, Kernel, Lane, Param, RegType, Stmt, Value};

/// A dimension known only at run time: one of `least`, `least + step`, ... up to `max`.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    /// The ONNX name of a dimension that the caller gives; `None` for a size that depends on the data.
    pub name: Option<String>,
    /// The smallest size.
    pub least: usize,
    /// The largest.
    pub max: usize,
    /// How far apart neighbouring sizes are.
    pub step: usize,
    /// What a given one must be: the sum of multiples of other symbols, by number, and a number.
    pub sum: Option<(Vec<(usize, usize)>, usize)>,
}

impl Symbol {
    /// A dimension that the caller gives: any size up to a bound.
    pub fn given(name: &str, max: usize) -> Self {
        Symbol { name: Some(name.to_string()), least: 1, max, step: 1, sum: None }
    }

    /// A size that the model computes.
    pub fn computed(max: usize) -> Self {
        Symbol { name: None, least: 0, max, step: 1, sum: None }
    }
}

/// The symbols that are these sizes, in order.
pub(super) fn symbols(sizes: &[&Size], place: impl Fn(usize) -> Option<usize>) -> Vec<Symbol> {
    let symbol = |size: &&Size| {
        let Some(name) = &size.name else { return Symbol::computed(size.max) };
        let (step, rest) = size.step;
        let least = size.least + (rest + step - size.least % step) % step;
        let max = size.max.max(least) - (size.max.max(least) - least) % step;
        let terms = |(of, number): &(Vec<(usize, usize)>, usize)| {
            let term = |(size, times): &(usize, usize)| Some((place(*size)?, *times));
            Some((of.iter().map(term).collect::<Option<Vec<_>>>()?, *number))
        };
        Symbol { name: Some(name.clone()), least, max, step, sum: size.sum.as_ref().and_then(terms) }
    };
    let mut all: Vec<Symbol> = sizes.iter().map(symbol).collect();
    for i in 0..all.len() {
        let Some((terms, number)) = all[i].sum.clone() else { continue };
        let least: usize = terms.iter().map(|&(of, times)| times * all[of].least).sum();
        all[i].least = all[i].least.max(least + number);
        all[i].step = terms.iter().fold(0, |step, &(of, times)| gcd(times * all[of].step, step)).max(1);
    }
    all
}

/// Fails with `ERR_SYMBOL` unless each symbol that the caller gives is one of its sizes; `None` where there
/// is no such symbol. They stand first.
pub(super) fn check(symbols: &[Symbol]) -> Option<Kernel> {
    let scalar = |lane| RegType { lane, lanes: 1 };
    let load = |to: u32, i: usize| {
        let addr = Addr { param: 0, index: Affine::constant(i as i64), dynamic: None };
        Stmt::Let(to, Value::Load(addr, 1))
    };
    let number = |to: u32, number: usize| Stmt::Let(to, Value::Const(number as u64));
    let fail = Stmt::Fail { cond: 3, code: abi::ERR_SYMBOL };
    let differ = || [Stmt::Let(3, Value::Cmp(Cmp::Ne, 0, 1)), fail.clone()];
    let count = symbols.iter().take_while(|s| s.name.is_some()).count();
    let mut body = Vec::new();
    for (i, symbol) in symbols[..count].iter().enumerate() {
        body.extend([
            load(0, i),
            number(1, symbol.least),
            number(2, symbol.max),
            Stmt::Let(3, Value::Cmp(Cmp::Lt, 0, 1)),
            Stmt::Let(4, Value::Cmp(Cmp::Gt, 0, 2)),
            Stmt::Let(3, Value::Bin(Bin::Or, 3, 4)),
            fail.clone(),
        ]);
        let Some((terms, more)) = &symbol.sum else {
            if symbol.step > 1 {
                body.push(number(1, symbol.step));
                body.push(Stmt::Let(0, Value::Bin(Bin::RemS, 0, 1)));
                body.push(number(1, symbol.least % symbol.step));
                body.extend(differ());
            }
            continue;
        };
        body.push(number(1, *more));
        for &(term, times) in terms {
            body.push(load(2, term));
            if times > 1 {
                body.extend([number(5, times), Stmt::Let(2, Value::Bin(Bin::Mul, 2, 5))]);
            }
            body.push(Stmt::Let(1, Value::Bin(Bin::Add, 1, 2)));
        }
        body.extend(differ());
    }
    let symbols = Param { name: "symbols".into(), dtype: DType::I64, elems: count, access: Access::Read };
    let kernel = Kernel {
        name: "check_sizes".into(),
        params: vec![symbols],
        vars: Vec::new(),
        regs: [Lane::I64, Lane::I64, Lane::I64, Lane::M64, Lane::M64, Lane::I64].map(scalar).to_vec(),
        fused: false,
        body,
    };
    (count > 0).then_some(kernel)
}
