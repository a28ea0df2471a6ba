/// Model odd_1, compiled by lmc 0.1.0 for aarch64-unknown-linux-gnu (cortex-a53).
///
/// Code 9000 bytes, constants 90416, arena 32256, stack 288; 2656768 multiply-adds an inference.
#[allow(non_snake_case, non_camel_case_types, clippy::too_many_arguments)]
pub mod odd_1 {
    const _: () = assert!(::lmc_runtime::abi::VERSION == 1, "lmc and lmc-runtime differ in version");

    unsafe extern "C" {
        static odd_1_model: ::lmc_runtime::abi::Model;
    }

    /// Bytes of scratch memory for one inference at a time.
    pub const ARENA_BYTES: usize = 32256;
    /// Bytes of stack that `run` needs at most.
    pub const STACK_BYTES: usize = 288;
    /// Scratch memory for one inference at a time.
    pub type Arena = ::lmc_runtime::Arena<ARENA_BYTES>;
    const _: () = assert!(Arena::ALIGN >= 64);

    /// The smallest `sequence_length`.
    pub const SEQUENCE_LENGTH_MIN: usize = 16;
    /// `sequence_length` is a multiple of this more than the smallest.
    pub const SEQUENCE_LENGTH_STEP: usize = 8;
    /// The largest `sequence_length`.
    pub const SEQUENCE_LENGTH_MAX: usize = 128;
    /// The largest `x1_dim1`.
    pub const X1_DIM1_MAX: usize = 100;

    /// The strings that numbers of words stand for.
    pub const WORDS: [&str; 2] = [
        "cat",
        "c:\\\"?\nä",
    ];

    /// The number of a string in an input of words; -1 for one that the model does not know.
    pub fn word_number(word: &str) -> i64 {
        WORDS.iter().position(|w| *w == word).map_or(-1, |number| number as i64)
    }

    /// The model, for code that takes any.
    pub fn model() -> ::lmc_runtime::Model<'static> {
        // SAFETY: lmc wrote the object; the version was compared above.
        unsafe { ::lmc_runtime::Model::from_raw(&odd_1_model) }.expect("compiled for this version")
    }

    /// Runs one inference.
    ///
    /// * `while_`: input of words, by number, "while", i64[1,sequence_length]
    /// * `serving_0`: input "serving:0", bool[4]
    /// * `serving_0_2`: input "serving_0", f16[]
    /// * `arena_2`: input "arena", u8[2,0]
    /// * `x`: input "* / " ", i4[3]
    /// * `x1`: output of words, by number, "1", i64[2,x1_dim1]
    /// * `None_`: output "None", bool[4]
    /// * `sequence_length`: dimension "sequence length", 16 to 128 in steps of 8
    /// * `x1_dim1`: a size that depends on the data, at most 100
    /// * `arena`: any arena that no other call uses now
    pub fn run(
        while_: &[i64; 128],
        serving_0: &[bool; 4],
        serving_0_2: &[u16; 1],
        arena_2: &[u8; 0],
        x: &[i8; 3],
        x1: &mut [i64; 200],
        None_: &mut [bool; 4],
        sequence_length: usize,
        x1_dim1: &mut usize,
        arena: &mut Arena,
    ) -> ::core::result::Result<(), ::lmc_runtime::Error> {
        let inputs: [*const ::core::ffi::c_void; 5] = [while_.as_ptr().cast(), serving_0.as_ptr().cast(), serving_0_2.as_ptr().cast(), arena_2.as_ptr().cast(), x.as_ptr().cast()];
        let outputs: [*mut ::core::ffi::c_void; 2] = [x1.as_mut_ptr().cast(), None_.as_mut_ptr().cast()];
        let mut symbols: [i64; 2] = [sequence_length.try_into().unwrap_or(i64::MAX), 0];
        let arena = arena.memory().as_mut_ptr().cast();
        // SAFETY: the types above have the sizes and alignments that the model states.
        let status = unsafe { (odd_1_model.run)(inputs.as_ptr(), outputs.as_ptr(), symbols.as_mut_ptr(), arena) };
        *x1_dim1 = symbols[1] as usize;
        ::lmc_runtime::Error::check(status)
    }
}
