//! Node attributes, as ONNX has them.

use super::Graph;
use crate::base::Tensor;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The value of an attribute.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Attr {
    Int(i64),
    Float(f32),
    Str(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strs(Vec<String>),
    Tensor(Tensor),
    Graph(Box<Graph>),
}

/// The attributes of a node, by name.
#[derive(Clone, Debug, Default)]
pub struct Attrs(pub BTreeMap<String, Attr>);

macro_rules! getter {
    ($get:ident, $variant:ident, $t:ty, $what:literal) => {
        #[doc = concat!("The attribute as ", $what, "; `None` where absent, an error where of another type.")]
        pub fn $get(&self, name: &str) -> Result<Option<$t>> {
            match self.0.get(name) {
                None => Ok(None),
                Some(Attr::$variant(v)) => Ok(Some(v)),
                Some(_) => Err(Error::model(concat!("must be ", $what)).at(format!("attribute {name}"))),
            }
        }
    };
}

impl Attrs {
    getter!(get_int, Int, &i64, "an integer");
    getter!(get_float, Float, &f32, "a float");
    getter!(get_str, Str, &str, "a string");
    getter!(get_ints, Ints, &[i64], "a list of integers");
    getter!(get_floats, Floats, &[f32], "a list of floats");
    getter!(get_strs, Strs, &[String], "a list of strings");
    getter!(get_tensor, Tensor, &Tensor, "a tensor");
    getter!(get_graph, Graph, &Graph, "a graph");

    /// An integer with its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.get_int(name)?.copied().unwrap_or(default))
    }

    /// A float with its default.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.get_float(name)?.copied().unwrap_or(default))
    }

    /// A string with its default.
    pub fn str<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.get_str(name)?.unwrap_or(default))
    }

    /// A flag: an integer of which 0 is false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: Attr) {
        self.0.insert(name.to_string(), value);
    }

    /// The same attributes with one more.
    pub fn with(mut self, name: &str, value: Attr) -> Self {
        self.set(name, value);
        self
    }
}
