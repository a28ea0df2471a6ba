//! Strings as numbers: each string that a model holds is a word, and its number stands for it.
//!
//! Tensors hold numbers alone. Classifiers give their labels as strings, picked from constants, and encoders
//! look strings of their input up in lists; so the strings of constants and lists are numbered while the file
//! is read, tensors of strings are int64, and what goes in and comes out are numbers of words: of a string that
//! the model does not hold, any other number. What reads strings is decided in `passes/infer/words.rs`; goldens of the
//! words in headers are in `tests/golden/package`.

use super::limits::shape;
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::check_size;
use std::collections::HashMap;
use tract_onnx::pb;

/// The number of strings in ONNX's list of element types.
pub(super) const STRING: i32 = pb::tensor_proto::DataType::String as i32;

/// What a LabelEncoder without a default gives for an unknown key.
pub const UNKNOWN: &str = "_Unused";

/// The strings of a model, numbered from 0.
#[derive(Clone, Debug, Default)]
pub struct Words {
    list: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Words {
    /// The words in the order of their numbers.
    pub fn list(&self) -> &[String] {
        &self.list
    }

    /// The number of a word; -1 for a string that the model does not hold.
    pub fn number(&self, word: &str) -> i64 {
        self.numbers.get(word).copied().unwrap_or(-1)
    }

    fn add(&mut self, word: &str) {
        if !self.numbers.contains_key(word) {
            self.numbers.insert(word.to_string(), self.list.len() as i64);
            self.list.push(word.to_string());
        }
    }

    pub(super) fn add_all<'a>(&mut self, words: impl IntoIterator<Item = &'a String>) {
        words.into_iter().for_each(|w| self.add(w));
    }

    /// A tensor of strings as their numbers.
    pub(super) fn tensor(&self, proto: &pb::TensorProto) -> Result<Tensor> {
        self.numbered(shape(&proto.dims)?, &strings(proto))
    }

    /// Strings as a tensor of their numbers.
    pub fn numbered(&self, shape: Vec<usize>, words: &[String]) -> Result<Tensor> {
        let ty = TensorType::new(crate::base::DType::I64, shape);
        check_size(&ty)?;
        let numbers: Vec<u8> = words.iter().flat_map(|w| self.number(w).to_le_bytes()).collect();
        let wrong = || Error::model(format!("{} strings do not fill the tensor", words.len()));
        Tensor::from_bytes(ty, numbers).ok_or_else(wrong)
    }
}

/// The strings of a tensor.
pub(super) fn strings(proto: &pb::TensorProto) -> Vec<String> {
    proto.string_data.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
}
