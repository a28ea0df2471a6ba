//! What operations on constants give, computed once for all samples of a model (see [`super::Graph::sample`]): weights
//! are the same in each, and so is what is made of them. Tensors are told apart by their elements, so that what is made
//! anew for each sample (a list of positions) is known again, too.

use crate::base::{Tensor, TensorType};
use crate::error::Result;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are kept at most.
const MOST: usize = 1 << 30;

/// An operation with its attributes and the types of its results, and what it is applied to.
type Question = (String, Vec<Option<(usize, TensorType)>>);

/// The results of an operation.
pub type Results = Vec<Option<Tensor>>;

/// What was computed.
#[derive(Default)]
pub struct Known(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    results: HashMap<Question, Results>,
    /// The numbers of elements, by where they lie: they are kept, so nothing else will lie there.
    places: HashMap<usize, usize>,
    numbers: HashMap<Arc<[u8]>, usize>,
    bytes: usize,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} results", self.kept().results.len())
    }
}

impl Kept {
    /// The number of these elements; nothing where they are new and no more can be kept.
    fn number(&mut self, data: &Arc<[u8]>) -> Option<usize> {
        if let Some(number) = self.places.get(&data.as_ptr().addr()).or_else(|| self.numbers.get(data)) {
            return Some(*number);
        }
        if data.len() > MOST - self.bytes {
            return None;
        }
        self.bytes += data.len();
        let number = self.numbers.len();
        self.numbers.insert(data.clone(), number);
        self.places.insert(data.as_ptr().addr(), number);
        Some(number)
    }

    fn question(&mut self, what: String, inputs: &[Option<&Tensor>]) -> Option<Question> {
        let mut of = Vec::with_capacity(inputs.len());
        for input in inputs {
            of.push(match input {
                Some(tensor) => Some((self.number(&tensor.data)?, tensor.ty.clone())),
                None => None,
            });
        }
        Some((what, of))
    }
}

impl Known {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an operation gives, computed where that is not known.
    pub fn once(
        &self,
        what: String,
        inputs: &[Option<&Tensor>],
        compute: impl FnOnce() -> Result<Results>,
    ) -> Result<Results> {
        let question = self.kept().question(what, inputs);
        let Some(question) = question else { return compute() };
        if let Some(results) = self.kept().results.get(&question) {
            return Ok(results.clone());
        }
        let results = compute()?;
        let mut kept = self.kept();
        let all_kept = results.iter().flatten().all(|t| kept.number(&t.data).is_some());
        if all_kept {
            kept.results.insert(question, results.clone());
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Equal elements are computed with once, wherever they lie; other types, operations and elements are others.
    #[test]
    fn equal_elements_are_known() {
        let (known, computed) = (Known::default(), Cell::new(0));
        let ask = |what: &str, tensor: &Tensor| {
            let results = known.once(what.to_string(), &[None, Some(tensor)], || {
                computed.set(computed.get() + 1);
                Ok(vec![Some(tensor.clone()), None])
            });
            (results.expect("it is computed"), computed.get())
        };
        let tensor = Tensor::new([2], &[1f32, 2.0]);
        let (first, _) = ask("copy", &tensor);
        let (again, count) = ask("copy", &Tensor::new([2], &[1f32, 2.0]));
        assert_eq!((&first, count), (&again, 1));
        let turned = tensor.reshaped([2, 1]).expect("as many elements");
        let others = [("copy", turned), ("other", tensor), ("copy", Tensor::new([2], &[1f32, 3.0]))];
        for (count, (what, tensor)) in others.iter().enumerate() {
            assert_eq!(ask(what, tensor), (vec![Some(tensor.clone()), None], count + 2));
        }
    }
}
