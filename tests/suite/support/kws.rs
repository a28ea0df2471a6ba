//! The bundled keyword-spotting model as an application has it: object, header, binding, and one
//! input with its expected output.

use super::models::named;
use super::{pipeline, scratch, write};
use lmc::package::{Compiled, binding, header};
use std::path::PathBuf;

/// A compiled model in a folder of its own.
pub struct Kws {
    /// Holds everything; `kws.h` and `kws.rs` too.
    pub folder: PathBuf,
    /// `kws.o`.
    pub object: PathBuf,
    /// 490 floats.
    pub input: PathBuf,
    /// 12 floats.
    pub expected: PathBuf,
}

impl Kws {
    /// Compiles for the baseline processor of a target, into a folder named after the test.
    pub fn build(target: &str, test: &str) -> Kws {
        let folder = scratch(&format!("{test}_{target}"));
        let entry = named("kws_dscnn");
        let model = lmc::import::read(&entry.folder.join("model.onnx")).unwrap_or_else(|e| panic!("{e}"));
        let target = lmc::target::resolve(target, "generic").unwrap_or_else(|e| panic!("{e}"));
        let built =
            pipeline::build(&model, &entry.bindings(0), "kws", &target).unwrap_or_else(|e| panic!("{e}"));
        let compiled = Compiled {
            program: &built.program,
            target: &target,
            code_bytes: built.emitted.code_bytes,
            constant_bytes: built.emitted.constant_bytes,
            stack_bytes: built.stack_bytes,
        };
        write(&folder, "kws.h", header(&compiled));
        write(&folder, "kws.rs", binding(&compiled));
        let (inputs, outputs) = entry.data(0);
        Kws {
            object: write(&folder, "kws.o", &built.emitted.bytes),
            input: write(&folder, "input.bin", &inputs[0].data),
            expected: write(&folder, "expected.bin", &outputs[0].data),
            folder,
        }
    }

    /// Defines for `tests/apps/data.S`.
    pub fn data_defines(&self) -> [String; 2] {
        let define = |name: &str, path: &PathBuf| format!("-D{name}=\"{}\"", path.display());
        [define("INPUT", &self.input), define("EXPECTED", &self.expected)]
    }
}
